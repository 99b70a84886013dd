"""What each member is asked, given what those before it have answered."""

from millrace.agents.joins.delegate import divided, results
from millrace.agents.joins.ensemble import judged_order
from millrace.agents.joins.moves import Table
from millrace.agents.joins.steps import Steps
from millrace.schemas.call import Brief, Job, Plan


def brief_of(steps: Steps, table: Table, number: int) -> Brief | None:
    """What a member is asked; None: the job as it stands.

    The same answers make the same brief, whether the member is called for the first time or the
    next candidate takes over.
    """
    plan, job = table.plan, table.job
    role = plan.members[number].role
    before = table.answers(
        [each for each, member in enumerate(plan.members) if member.stage < table.state.stage]
    )
    if role in {"judge", "merge", "embed"}:
        answers = [before[each] for each in judged_order(before)]
        if role == "embed":
            return steps.embed(answers)
        ask = steps.judge if role == "judge" else steps.merge
        return ask(job, answers)
    if role == "refine" and before:
        return steps.refine(job, before[max(before)])
    if role == "part":
        return steps.part(job, divided(table)[number])
    if role == "combine":
        planned, done = divided(table), results(table)
        missing = [part for each, part in planned.items() if each not in done]
        return steps.combine(job, list(done.values()), missing) if done else None
    return opening_brief(steps, job, plan, number)


def opening_brief(steps: Steps, job: Job, plan: Plan, number: int) -> Brief | None:
    """What a member of the first stage is asked; None: the job as it stands."""
    if plan.members[number].role != "plan":
        return None
    return steps.plan(job, max_parts=len(plan.stage_members(plan.members[number].stage + 1)))
