"""Strategy `cascade`: cheap models first, dearer ones where the answer is not trusted."""

from millrace.agents.joins.choose import by_vote, count
from millrace.agents.joins.moves import WAIT, Finish, Launch, Move, Table
from millrace.agents.joins.state import Answer, Member
from millrace.schemas.call import Call, CascadeRule, Plan
from millrace.schemas.response import CascadeVerdict, TierResult


def climbs(plan: Plan) -> bool:
    """Whether one member goes through the tiers; where two must agree, tiers are stages."""
    return plan.cascade is not None and plan.cascade.confidence != "agreement"


def cascade(table: Table) -> Move:
    """Finish with the first answer that was trusted, or the best one there is."""
    if not climbs(table.plan):
        return _agreement(table)
    members = table.plan.stage_members(0)
    if not table.settled(members):
        return WAIT
    member = table.member(members[0])
    # One that is being rated when time is up comes from the highest tier so far.
    answer = member.awaiting or member.answer
    if answer is None:
        return Finish(cascade=_verdict(table.plan, None, member.tiers))
    return Finish(
        answer=answer,
        by="confidence",
        member=members[0],
        cascade=_verdict(table.plan, answer.tier, member.tiers),
        notes=() if _trusted(member.tiers) else ("no tier sufficed; this is the best answer",),
    )


def needs_rating(call: Call) -> bool:
    """Whether a model must be asked how sure it is of an answer it just gave."""
    rule = call.plan.cascade
    return rule is not None and rule.confidence == "self_rating" and next_tier(call) is not None


def next_tier(call: Call) -> int | None:
    """The index of the first candidate of a higher tier; None where there is none."""
    candidates = call.plan.members[call.member].candidates
    here = call.target.tier
    higher = (index for index, each in enumerate(candidates) if each.tier > here)
    return next(higher, None)


def assess(call: Call, answer: Answer, confidence: float | None) -> TierResult:
    """Hold an answer against its tier's threshold; one that cannot be told is not trusted."""
    threshold = None if next_tier(call) is None else _threshold(call)
    trusted = threshold is None or (confidence is not None and confidence >= threshold)
    return TierResult(
        tier=answer.tier,
        provider=answer.provider,
        model=answer.model,
        confidence=confidence,
        threshold=threshold,
        sufficed=trusted,
    )


def better(member: Member, answer: Answer, result: TierResult) -> Answer:
    """The answer to fall back on: the most trusted one, and of equals the later one."""
    if member.answer is None:
        return answer
    known = [each.confidence or 0.0 for each in member.tiers]
    return answer if (result.confidence or 0.0) >= max(known, default=0.0) else member.answer


def _agreement(table: Table) -> Move:
    plan, first = table.plan, table.plan.stage_members(0)
    answers = table.answers(first)
    later = plan.stage_members(1)
    if not table.settled(later if table.state.stage else first):
        return WAIT
    if table.state.stage == 0:
        if len(answers) > 1 and not count(plan, answers).dissenting:
            return _finished(table, by_vote(plan, answers), first=answers, agreed=True)
        if later and not table.final:
            return Launch(stage=1, members=later)
    for number, answer in table.answers(later).items():
        finish = Finish(answer=answer, by="confidence", member=number, agreeing=(number,))
        return _finished(table, finish, first=answers, agreed=False)
    return _best_of_first(table, answers)


def _best_of_first(table: Table, answers: dict[int, Answer]) -> Finish:
    if not answers:
        return Finish(cascade=_verdict(table.plan, None, ()))
    note = "the answers of the first tier did not agree, and no higher one answered"
    finish = by_vote(table.plan, answers, notes=(note,))
    return _finished(table, finish, first=answers, agreed=False)


def _finished(table: Table, finish: Finish, *, first: dict[int, Answer], agreed: bool) -> Finish:
    """The same end with what the tiers came to."""
    plan, answer = table.plan, finish.answer
    results = [
        TierResult(
            tier=each.tier,
            provider=each.provider,
            model=each.model,
            confidence=1.0 if agreed else 0.0,
            threshold=1.0,
            sufficed=agreed,
        )
        for each in first.values()
    ]
    tier = answer.tier if answer is not None else None
    later = answer is not None and finish.member not in first
    if answer is not None and later:
        results.append(
            TierResult(
                tier=answer.tier, provider=answer.provider, model=answer.model, sufficed=True
            )
        )
    return Finish(
        answer=answer,
        by="confidence",
        member=finish.member,
        agreeing=finish.agreeing,
        dissenting=tuple(sorted(first.keys() - set(finish.agreeing))),
        agreement=finish.agreement,
        cascade=_verdict(plan, tier, tuple(results)),
        notes=finish.notes,
    )


def _verdict(plan: Plan, tier: int | None, results: tuple[TierResult, ...]) -> CascadeVerdict:
    rule = plan.cascade or CascadeRule()
    tiers = {each.tier for member in plan.members for each in member.candidates}
    return CascadeVerdict(
        confidence=rule.confidence,
        tiers=len(tiers),
        tier=tier,
        sufficed=_trusted(results),
        results=results,
    )


def _trusted(results: tuple[TierResult, ...]) -> bool:
    return any(each.sufficed for each in results)


def _threshold(call: Call) -> float:
    """What the plan says for the tier; where it says less than it should, its last word."""
    rule = call.plan.cascade or CascadeRule()
    candidates = call.plan.members[call.member].candidates
    tiers = sorted({each.tier for each in candidates})
    at = tiers.index(call.target.tier)
    thresholds = rule.thresholds
    return thresholds[min(at, len(thresholds) - 1)] if thresholds else 1.0
