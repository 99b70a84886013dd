"""Strategy `delegate`: a planner divides the work, members do the parts, one combines them."""

from millrace.agents.joins.moves import WAIT, Finish, Launch, Move, Table
from millrace.agents.joins.reading import parts
from millrace.agents.joins.state import Answer
from millrace.agents.joins.steps import Part
from millrace.schemas.call import Plan
from millrace.schemas.vocabulary import OutputFormat

_PARTS, _COMBINE = 1, 2
_JOINABLE: frozenset[OutputFormat] = frozenset({"text", "markdown"})
"""Formats in which one result after the other is an answer, too."""


def delegate(table: Table) -> Move:
    """Plan, do the parts, combine.

    Without a plan the combining member answers the job as it stands; parts that fail are left
    out. Where nothing combines them, the parts' results one after the other are the answer, if
    the job asks for text. Notes say so each time.
    """
    plan, stage = table.plan, table.state.stage
    if not table.settled(plan.stage_members(stage)):
        return WAIT
    if stage == 0:
        return _divide(table)
    if stage == _PARTS:
        return _combine(table)
    return _conclude(table)


def divided(table: Table) -> dict[int, Part]:
    """The parts by the members that do them; empty where there is no plan."""
    plan = table.plan
    workers = plan.stage_members(_PARTS)
    for answer in table.answers(plan.stage_members(0)).values():
        return dict(zip(workers, parts(answer.data, limit=len(workers)), strict=False))
    return {}


def results(table: Table) -> dict[int, tuple[Part, Answer]]:
    """The parts that are done, by member."""
    answers = table.answers(table.plan.stage_members(_PARTS))
    return {
        number: (part, answers[number])
        for number, part in divided(table).items()
        if number in answers
    }


def _divide(table: Table) -> Move:
    plan = table.plan
    if table.final:
        return Finish()
    work = divided(table)
    workers = plan.stage_members(_PARTS)
    if work:
        spare = tuple(number for number in workers if number not in work)
        return Launch(stage=_PARTS, members=tuple(work), skipped=spare)
    return Launch(
        stage=_COMBINE,
        members=plan.stage_members(_COMBINE),
        skipped=workers,
        notes=("the work was not divided: there is no valid plan",),
    )


def _combine(table: Table) -> Move:
    done, planned = results(table), divided(table)
    if len(done) < max(1, min(table.plan.quorum, len(planned))):
        return Finish()
    if table.final:
        return _joined(table, "no time was left to combine the parts")
    short = len(planned) - len(done)
    notes = (f"{short} of {len(planned)} parts have no result",) if short else ()
    return Launch(stage=_COMBINE, members=table.plan.stage_members(_COMBINE), notes=notes)


def _conclude(table: Table) -> Finish:
    combined = table.answers(_combiners(table.plan))
    done = tuple(results(table))
    for number, answer in combined.items():
        return Finish(answer=answer, by="combine", member=number, agreeing=done)
    return _joined(table, "the combining member gave no valid answer")


def _combiners(plan: Plan) -> tuple[int, ...]:
    return plan.stage_members(_COMBINE)


def _joined(table: Table, note: str) -> Finish:
    """The results one after the other, where that is an answer."""
    done = results(table)
    if not done or table.job.output.format not in _JOINABLE:
        return Finish(notes=(note,))
    text = "\n\n".join(f"{part.title}\n\n{answer.text}" for part, answer in done.values())
    last = list(done.values())[-1][1]
    answer = last.model_copy(update={"text": text, "data": None, "stream": None})
    return Finish(answer=answer, by="parts", agreeing=tuple(done), notes=(note,))
