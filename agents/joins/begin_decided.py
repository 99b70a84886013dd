"""How a request begins once its task is known: from a model's word to the first calls of a plan."""

from contextlib import suppress
from typing import Protocol

from millrace.agents.classify_task import TaskGuess
from millrace.agents.joins import reading
from millrace.agents.joins.briefs import opening_brief
from millrace.agents.joins.state import Decision, JoinState, Member
from millrace.agents.joins.steps import Steps
from millrace.agents.validation.verdict import InvalidOutput, ValidOutput
from millrace.schemas.call import Call, Job, Plan, Undecided
from millrace.schemas.errors import ErrorInfo, InvalidEventError
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.request import Route


class PlanTask(Protocol):
    """Decides which models are asked for a job, in which order."""

    def plan(self, job: Job, route: Route, guess: TaskGuess | None = None) -> Plan:
        """Choose the candidates of each member.

        Raises:
            InvalidEventError: Nothing fits.
        """
        ...


def begin_decided(
    undecided: Undecided,
    outcome: AttemptOutcome,
    checked: ValidOutput | InvalidOutput | ErrorInfo,
    *,
    planning: PlanTask,
    steps: Steps,
    offset: int,
) -> Decision:
    """Call the first stage of the request's plan, made by what a model says that the request is.

    The question stays in the history, as the first attempts of the first member.
    """
    call = outcome.call
    job, plan = _decided(undecided, call.job, checked, planning)
    error = checked.error if isinstance(checked, InvalidOutput) else None
    made = (*call.history, outcome.summary(error))
    state = JoinState(
        applied=offset,
        touched_at=outcome.finished_at,
        members={call.member: Member(decided=call.attempt, attempts=made)},
    )
    if plan.joined:
        opened = {"job": job, "plan": plan, "announced": True}
        state = state.model_copy(update={**opened, "stage_since": outcome.finished_at})
    calls = []
    for number in plan.stage_members(0):
        brief = opening_brief(steps, job, plan, number)
        first = Call(job=job, plan=plan, member=number, brief=brief)
        if number == call.member:
            first = first.model_copy(update={"attempt": call.attempt + 1, "history": made})
        calls.append(first)
    return Decision(state, calls=tuple(calls))


def _decided(
    undecided: Undecided,
    job: Job,
    checked: ValidOutput | InvalidOutput | ErrorInfo,
    planning: PlanTask,
) -> tuple[Job, Plan]:
    """The job as the task that was found, and its plan."""
    data = checked.data if isinstance(checked, ValidOutput) else None
    task = reading.task(data)
    if task is None:
        return job, undecided.plan
    guess = TaskGuess(task=task, source="model", confidence=reading.confidence(data) or 0.0)
    if task != job.task:
        found = job.model_copy(update={"task": task})
        # No model may fit that task; one fits the other.
        with suppress(InvalidEventError):
            return found, planning.plan(found, undecided.route, guess)
        return job, undecided.plan
    known = {"task_source": guess.source, "task_confidence": guess.confidence}
    reasons = (*undecided.plan.reasons, str(guess))
    return job, undecided.plan.model_copy(update={**known, "reasons": reasons})
