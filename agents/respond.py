"""Writing the terminal record from whatever ended a request."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from millrace.agents.validate_output import ValidOutput
from millrace.schemas.call import AttemptSummary, Job, Plan
from millrace.schemas.embedding import Vectors
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.message import ToolCall
from millrace.schemas.outcome import AttemptOutcome, Refusal
from millrace.schemas.response import EnsembleVerdict, Response
from millrace.schemas.usage import Timing, Usage
from millrace.schemas.vocabulary import FinishReason, TerminalStatus


class GivenAnswer(Protocol):
    """What a member of an ensemble has answered."""

    @property
    def text(self) -> str:
        """The answer."""
        ...

    @property
    def data(self) -> Any:
        """The answer parsed, where it is JSON."""
        ...

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools it asks to call."""
        ...

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the model stopped."""
        ...

    @property
    def timing(self) -> Timing:
        """How long the member took."""
        ...


class CountedVotes(Protocol):
    """How a vote came out."""

    @property
    def winner(self) -> int:
        """The member whose words stand for the winning answer."""
        ...

    @property
    def agreeing(self) -> Sequence[int]:
        """The members that gave it."""
        ...

    @property
    def dissenting(self) -> Sequence[int]:
        """The members that gave another."""
        ...


def ended_by_refusal(refusal: Refusal) -> Response:
    """The request never came to a call."""
    return Response(
        request_id=refusal.request_id,
        status=refusal.status,
        task=refusal.task,
        team=refusal.team,
        strategy=refusal.strategy,
        error=refusal.error,
        tags=refusal.tags,
        replay=refusal.replay,
        completed_at=refusal.refused_at,
    )


def ended_by_attempt(
    outcome: AttemptOutcome,
    *,
    valid: ValidOutput | None = None,
    invalid: ErrorInfo | None = None,
    others: tuple[AttemptSummary, ...] = (),
) -> Response:
    """One attempt decided; `others` are those of other members."""
    call = outcome.call
    last = outcome.summary(invalid)
    attempts = (*others, *call.history, last)
    status: TerminalStatus = outcome.status
    if invalid is not None and status == "completed":
        status = "failed"
    if _all_refused_by_budgets(attempts):
        status = "rejected"
    return _response(
        call.job,
        call.plan,
        status=status,
        attempts=attempts,
        at=outcome.finished_at,
        text=valid.text if valid is not None else outcome.text,
        data=valid.data if valid is not None else None,
        tool_calls=outcome.tool_calls,
        embeddings=outcome.embeddings if valid is not None else (),
        refusal=outcome.refusal,
        finish_reason=outcome.finish_reason,
        answered_by=last,
        timing=outcome.timing,
        error=invalid or outcome.error,
    )


def ended_by_vote(
    job: Job,
    plan: Plan,
    answers: Mapping[int, GivenAnswer],
    votes: CountedVotes,
    *,
    attempts: tuple[AttemptSummary, ...],
    at: datetime,
) -> Response:
    """Enough members of an ensemble answered."""
    answer = answers[votes.winner]
    last = [each for each in attempts if each.member == votes.winner][-1]
    return _response(
        job,
        plan,
        status="completed",
        attempts=attempts,
        at=at,
        text=answer.text,
        data=answer.data,
        tool_calls=answer.tool_calls,
        finish_reason=answer.finish_reason,
        answered_by=last,
        timing=answer.timing,
        ensemble=EnsembleVerdict(
            mode=plan.mode or "vote",
            members=len(plan.members),
            answered=len(answers),
            agreeing=tuple(votes.agreeing),
            dissenting=tuple(votes.dissenting),
            missing=_missing(plan, answers),
        ),
    )


def ended_without_quorum(
    job: Job,
    plan: Plan,
    answered: Iterable[int],
    attempts: tuple[AttemptSummary, ...],
    at: datetime,
) -> Response:
    """Too few members of an ensemble answered in time."""
    given = tuple(answered)
    expired = at >= job.deadline
    if _all_refused_by_budgets(attempts) and not expired:
        return _response(
            job, plan, status="rejected", attempts=attempts, at=at, error=attempts[-1].error
        )
    message = (
        f"{len(given)} of {len(plan.members)} members answered"
        f"{' before the deadline' if expired else ''}; {plan.quorum} were needed"
    )
    return _response(
        job,
        plan,
        status="expired" if expired else "failed",
        attempts=attempts,
        at=at,
        error=ErrorInfo(
            code="deadline_exceeded" if expired else "quorum_not_reached", message=message
        ),
        ensemble=EnsembleVerdict(
            mode=plan.mode or "vote",
            members=len(plan.members),
            answered=len(given),
            missing=_missing(plan, given),
        ),
    )


def _response(
    job: Job,
    plan: Plan,
    *,
    status: TerminalStatus,
    attempts: tuple[AttemptSummary, ...],
    at: datetime,
    text: str = "",
    data: Any = None,
    tool_calls: tuple[ToolCall, ...] = (),
    embeddings: Vectors = (),
    refusal: str = "",
    finish_reason: FinishReason | None = None,
    answered_by: AttemptSummary | None = None,
    timing: Timing | None = None,
    ensemble: EnsembleVerdict | None = None,
    error: ErrorInfo | None = None,
) -> Response:
    return Response(
        request_id=job.request_id,
        status=status,
        text=text,
        data=data,
        tool_calls=tool_calls,
        embeddings=embeddings,
        refusal=refusal,
        finish_reason=finish_reason,
        provider=answered_by.provider if answered_by else None,
        model=answered_by.model if answered_by else None,
        task=job.task,
        team=job.team,
        strategy=plan.strategy,
        usage=_total_usage(attempts),
        cost_usd=_total_cost(attempts),
        attempts=attempts,
        ensemble=ensemble,
        timing=_as_the_requester_saw_it(job, timing or Timing(), at),
        prompt=job.prompt,
        error=error,
        tags=job.tags,
        replay=job.replay,
        accepted_at=job.accepted_at,
        completed_at=at,
    )


def _all_refused_by_budgets(attempts: tuple[AttemptSummary, ...]) -> bool:
    """Whether nothing was ever asked, as no budget had room."""
    return bool(attempts) and all(
        each.error is not None and each.error.code == "budget_exceeded" for each in attempts
    )


def _as_the_requester_saw_it(job: Job, timing: Timing, at: datetime) -> Timing:
    """An attempt counts from its start; a request from when it was accepted."""
    first = timing.time_to_first_token_ms
    queued = timing.queued_ms
    total = max(0.0, (at - job.accepted_at).total_seconds() * 1e3)
    return Timing(
        queued_ms=queued,
        time_to_first_token_ms=None if first is None else round(first + (queued or 0.0), 3),
        total_ms=round(total, 3),
    )


def _total_usage(attempts: tuple[AttemptSummary, ...]) -> Usage | None:
    usages = [each.usage for each in attempts if each.usage is not None]
    return sum(usages[1:], start=usages[0]) if usages else None


def _total_cost(attempts: tuple[AttemptSummary, ...]) -> Decimal | None:
    """Unknown as soon as one paid attempt's cost is: a sum without it would be a lie."""
    paid = [each for each in attempts if each.usage is not None]
    costs = [each.cost_usd for each in paid if each.cost_usd is not None]
    return sum(costs, start=Decimal(0)) if paid and len(costs) == len(paid) else None


def _missing(plan: Plan, answered: Iterable[int]) -> tuple[int, ...]:
    there = set(answered)
    return tuple(number for number in range(len(plan.members)) if number not in there)
