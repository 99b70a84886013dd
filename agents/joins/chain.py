"""Strategy `ensemble`, mode `chain`: each member improves the answer of those before."""

from millrace.agents.joins.moves import WAIT, Finish, Launch, Move, Table
from millrace.schemas.vocabulary import DecidedBy


def chain(table: Table) -> Move:
    """Call one member after the other; the last valid answer is the result.

    A member that fails is passed over, and counted as missing: the next one goes on from the
    last valid answer, or begins where there is none.
    """
    plan, stage = table.plan, table.state.stage
    current = plan.stage_members(stage)
    if not table.settled(current):
        return WAIT
    following = plan.stage_members(stage + 1)
    if following and not table.final:
        return Launch(stage=stage + 1, members=following)
    everybody = tuple(range(len(plan.members)))
    answers = table.answers(everybody)
    if not table.enough(answers):
        return Finish()
    last = max(answers)
    notes = ("no time was left for the rest of the chain",) if following else ()
    by: DecidedBy = "refine" if len(answers) > 1 else "first"
    return Finish(answer=answers[last], by=by, member=last, agreeing=(last,), notes=notes)
