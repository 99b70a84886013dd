"""Strategy `ensemble`, but for its mode `chain`: members answer side by side."""

from collections.abc import Mapping
from dataclasses import replace

from millrace.agents.joins.choose import by_score, by_vote, chosen, count, unanimous
from millrace.agents.joins.moves import WAIT, Finish, Launch, Move, Table
from millrace.agents.joins.reading import chosen_answer
from millrace.agents.joins.state import Answer
from millrace.schemas.call import Plan


def ensemble(table: Table) -> Move:
    """Wait for all members, then choose or have the answer chosen or written.

    Where a judge or a merging member fails, the members' answers decide, and where one that is
    to embed them fails, their wording. A note says so.
    """
    plan = table.plan
    members = plan.stage_members(0)
    if table.state.stage == 0:
        if not table.settled(members):
            return WAIT
        answers = table.answers(members)
        if not table.enough(answers):
            return Finish()
        last = plan.stage_members(1)
        if not last:
            return _without_asking(plan, answers)
        return _ask(table, answers, last[0])
    last = plan.stage_members(1)
    if not table.settled(last):
        return WAIT
    return _asked(table, table.answers(members), last[0])


def judged_order(answers: Mapping[int, Answer]) -> tuple[int, ...]:
    """The members in the order in which whoever judges or embeds sees their answers."""
    return tuple(sorted(answers))


def _ask(table: Table, answers: Mapping[int, Answer], last: int) -> Move:
    plan = table.plan
    role = plan.members[last].role
    if role == "embed" and unanimous(answers):
        return _without_asking(plan, answers)
    if table.final:
        return _without_asking(plan, answers, f"no time was left for the {role} member")
    if len(answers) == 1:
        return _without_asking(plan, answers, f"one answer needs no {role} member")
    if any(answer.tool_calls for answer in answers.values()):
        return _without_asking(plan, answers, f"the {role} member cannot read calls of tools")
    return Launch(stage=1, members=(last,))


def _asked(table: Table, answers: Mapping[int, Answer], last: int) -> Finish:
    plan = table.plan
    role = plan.members[last].role
    answer = table.member(last).answer
    if answer is None:
        return _without_asking(plan, answers, f"the {role} member gave no valid answer")
    if role == "embed":
        vectors = dict(zip(judged_order(answers), answer.vectors, strict=True))
        return by_vote(plan, answers, weighted=plan.mode == "weighted", vectors=vectors)
    if role == "merge":
        ballot = count(plan, answers)
        return Finish(answer=answer, by="merge", member=last, agreement=ballot.agreement)
    order = judged_order(answers)
    best = chosen_answer(answer.data, answers=len(order))
    if best is None:
        return _without_asking(plan, answers, "the judge named no answer")
    return replace(chosen(plan, answers, order[best]), by="judge", member=last)


def _without_asking(plan: Plan, answers: Mapping[int, Answer], note: str = "") -> Finish:
    notes = (note,) if note else ()
    if plan.mode == "best_of":
        return by_score(plan, answers, notes=notes)
    return by_vote(plan, answers, weighted=plan.mode == "weighted", notes=notes)
