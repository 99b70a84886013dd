"""Strategy `parallel`: the first valid answer wins."""

from millrace.agents.joins.moves import WAIT, Finish, Move, Table


def race(table: Table) -> Move:
    """Finish with the first valid answer; without one once nobody is left to give it."""
    members = table.plan.stage_members(0)
    for number, answer in table.answers(members).items():
        return Finish(answer=answer, by="first", member=number, agreeing=(number,))
    return Finish() if table.settled(members) else WAIT
