"""What the terminal record says of a request's members."""

from millrace.agents.joins.moves import Finish
from millrace.agents.joins.state import JoinState
from millrace.schemas.call import Plan
from millrace.schemas.response import EnsembleVerdict, MemberScore
from millrace.schemas.vocabulary import MemberRole

_ANSWERING: frozenset[MemberRole] = frozenset({"answer", "refine", "part"})


def answering(plan: Plan) -> tuple[int, ...]:
    """The members that answer the job or a part of it; not those that judge or combine."""
    return tuple(number for number, member in enumerate(plan.members) if member.role in _ANSWERING)


def ensemble_verdict(state: JoinState, plan: Plan, finish: Finish) -> EnsembleVerdict:
    """Who answered, who did not and why, and what chose the answer."""
    members = answering(plan)
    known = {number: state.member(number) for number in members}
    skipped = tuple(number for number, each in known.items() if each.without == "skipped")
    missing = tuple(
        number
        for number, each in known.items()
        if each.answer is None and each.without != "skipped"
    )
    # Those that lost a race are being stopped; their own outcomes have yet to say so.
    lost = plan.strategy == "parallel" and finish.by == "first"
    cancelled = tuple(
        number
        for number in missing
        if known[number].without == "cancelled" or (lost and not known[number].done)
    )
    return EnsembleVerdict(
        mode=plan.mode,
        members=len(members) - len(skipped),
        answered=sum(each.answer is not None for each in known.values()),
        agreeing=finish.agreeing,
        dissenting=finish.dissenting,
        missing=missing,
        cancelled=cancelled,
        timed_out=tuple(n for n in missing if known[n].without == "timed_out"),
        skipped=skipped,
        partial=bool(missing) and plan.strategy in {"ensemble", "delegate"},
        agreement=finish.agreement,
        decided_by=finish.by,
        decided_by_member=finish.member,
        scores=tuple(
            MemberScore(
                member=number, score=each.answer.quality.score, weight=plan.members[number].weight
            )
            for number, each in known.items()
            if each.answer is not None
        ),
        notes=(*state.notes, *finish.notes),
    )
