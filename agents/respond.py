"""Writing the terminal record from whatever ended a request."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from millrace.agents.joins.moves import Finish
from millrace.agents.joins.state import JoinState, Member
from millrace.agents.joins.verdict import answering, ensemble_verdict
from millrace.agents.validation.verdict import InvalidOutput, ValidOutput
from millrace.schemas.call import AttemptSummary, Job, Plan
from millrace.schemas.embedding import Vectors
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.message import ToolCall
from millrace.schemas.outcome import AttemptOutcome, Refusal
from millrace.schemas.response import CascadeVerdict, EnsembleVerdict, Quality, Response
from millrace.schemas.unchecked import unchecked
from millrace.schemas.usage import Timing, Usage
from millrace.schemas.vocabulary import FinishReason, TerminalStatus

_ended, _timing, _quality = unchecked(Response), unchecked(Timing), unchecked(Quality)


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
    invalid: InvalidOutput | None = None,
    rejected: str = "",
    others: tuple[AttemptSummary, ...] = (),
    cost_final: bool = True,
) -> Response:
    """One attempt decided; `others` are those of other members.

    Without a valid answer the text is what the model said, or, where it said nothing, the
    `rejected` text of an earlier attempt.
    """
    call = outcome.call
    last = outcome.summary(invalid.error if invalid else None)
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
        cost_final=cost_final,
        at=outcome.finished_at,
        text=valid.text if valid is not None else outcome.text or rejected,
        data=valid.data if valid is not None else None,
        tool_calls=outcome.tool_calls,
        embeddings=outcome.embeddings if valid is not None else (),
        refusal=outcome.refusal,
        finish_reason=outcome.finish_reason,
        provider=last.provider,
        model=last.model,
        timing=outcome.timing,
        error=(invalid.error if invalid else None) or outcome.error,
        quality=quality_of(valid) if valid is not None else None,
    )


def ended_by_join(
    state: JoinState,
    job: Job,
    plan: Plan,
    finish: Finish,
    at: datetime,
    *,
    cost_final: bool,
) -> Response:
    """A strategy has come to its end, with an answer or without one."""
    attempts = attempts_of(state.members)
    several = len(plan.members) > 1
    ensemble = ensemble_verdict(state, plan, finish) if several else None
    answer = finish.answer
    if answer is None:
        status, error = _without_answer(state, job, plan, attempts, at)
        return _response(
            job,
            plan,
            status=status,
            attempts=attempts,
            cost_final=cost_final,
            at=at,
            text=next((each.rejected for each in state.members.values() if each.rejected), ""),
            ensemble=ensemble,
            cascade=finish.cascade,
            error=error,
        )
    return _response(
        job,
        plan,
        status="completed",
        attempts=attempts,
        cost_final=cost_final,
        at=at,
        text=answer.text,
        data=answer.data,
        tool_calls=answer.tool_calls,
        finish_reason=answer.finish_reason,
        provider=answer.provider,
        model=answer.model,
        timing=answer.timing,
        ensemble=ensemble,
        cascade=finish.cascade,
        quality=answer.quality,
    )


def attempts_of(
    members: Mapping[int, Member], *, without: int | None = None
) -> tuple[AttemptSummary, ...]:
    """Every attempt of all members but one, in order."""
    return tuple(
        attempt
        for number, member in sorted(members.items())
        if number != without
        for attempt in member.attempts
    )


def quality_of(valid: ValidOutput) -> Quality:
    """What the validator thinks of an answer."""
    return _quality(score=valid.score, parts=dict(valid.parts), notes=valid.notes)


def _without_answer(
    state: JoinState,
    job: Job,
    plan: Plan,
    attempts: tuple[AttemptSummary, ...],
    at: datetime,
) -> tuple[TerminalStatus, ErrorInfo | None]:
    """Why there is no answer: of several reasons, the one that the requester can do most about."""
    members = [state.member(number) for number in answering(plan)]
    stopped = [each for each in members if each.without not in {None, "skipped"}]
    cancelled = bool(stopped) and all(each.without == "cancelled" for each in stopped)
    given = sum(each.answer is not None for each in members)
    # A caller's clock may run a little ahead of the deadline.
    late = sum(each.answer is None and _ran_out_of_time(each) for each in members)
    expired = at >= job.deadline or (late > 0 and given + late >= plan.quorum)
    if _all_refused_by_budgets(attempts) and not expired:
        return "rejected", attempts[-1].error
    if cancelled and not expired:
        return "cancelled", ErrorInfo(code="cancelled", message="every member was cancelled")
    by_then = " before the deadline" if expired else ""
    if plan.strategy in {"ensemble", "delegate"} or expired:
        code = "deadline_exceeded" if expired else "quorum_not_reached"
        message = (
            f"{given} of {len(members)} members answered{by_then}; {plan.quorum} were needed"
            if len(members) > 1
            else f"no tier answered{by_then}"
        )
        return ("expired" if expired else "failed"), ErrorInfo(code=code, message=message)
    failed = [each.error for each in attempts if each.error is not None]
    unknown = ErrorInfo(code="quorum_not_reached", message="no member gave a valid answer")
    return "failed", failed[-1] if failed else unknown


def _ran_out_of_time(member: Member) -> bool:
    return bool(member.attempts) and member.attempts[-1].status == "expired"


def _response(
    job: Job,
    plan: Plan,
    *,
    status: TerminalStatus,
    attempts: tuple[AttemptSummary, ...],
    cost_final: bool,
    at: datetime,
    text: str = "",
    data: Any = None,
    tool_calls: tuple[ToolCall, ...] = (),
    embeddings: Vectors = (),
    refusal: str = "",
    finish_reason: FinishReason | None = None,
    provider: str | None = None,
    model: str | None = None,
    timing: Timing | None = None,
    ensemble: EnsembleVerdict | None = None,
    cascade: CascadeVerdict | None = None,
    quality: Quality | None = None,
    error: ErrorInfo | None = None,
) -> Response:
    return _ended(
        request_id=job.request_id,
        status=status,
        text=text,
        data=data,
        tool_calls=tool_calls,
        embeddings=embeddings,
        refusal=refusal,
        finish_reason=finish_reason,
        provider=provider,
        model=model,
        task=job.task,
        team=job.team,
        strategy=plan.strategy,
        usage=_total_usage(attempts),
        cost_usd=_total_cost(attempts),
        cost_final=cost_final,
        attempts=attempts,
        ensemble=ensemble,
        plan=plan,
        cascade=cascade,
        quality=quality,
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
    return _timing(
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
