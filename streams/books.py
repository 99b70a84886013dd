"""The ledger events of an invocation, made from the call and what became of it."""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from millrace.schemas.call import Call
from millrace.schemas.errors import ErrorCode
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.unchecked import changed, unchecked
from millrace.schemas.usage import Timing, Usage
from millrace.schemas.vocabulary import AttemptStatus, CostSource, FinishReason

_event = unchecked(UsageEvent)


class Spent(NamedTuple):
    """What an invocation cost and how it ended."""

    status: AttemptStatus
    usage: Usage
    cost_usd: Decimal | None
    cost_source: CostSource
    timing: Timing
    finished_at: datetime
    finish_reason: FinishReason | None = None
    error_code: ErrorCode | None = None
    key_alias: str | None = None
    """The environment variable whose key was used; never the key."""


def ledger_key(call: Call) -> str:
    """The key of a call's ledger events: whoever pays."""
    job = call.job
    return job.budget_key or job.team or "unassigned"


def reserved(
    call: Call,
    *,
    invocation: str,
    usage: Usage,
    cost_usd: Decimal | None,
    cost_source: CostSource,
    started_at: datetime,
) -> UsageEvent:
    """The event that is on the topic before the provider is called; `usage` is an estimate."""
    job = call.job
    target = call.target
    return _event(
        event="reserved",
        row_id=f"{call.attempt_id}/{invocation}",
        request_id=job.request_id,
        member=call.member,
        attempt=call.attempt,
        invocation=invocation,
        provider=target.provider,
        model=target.model,
        hardware=target.hardware,
        task=job.task,
        team=job.team,
        budget_key=job.budget_key,
        strategy=call.plan.strategy,
        prompt=job.prompt,
        usage=usage,
        cost_usd=cost_usd,
        cost_source=cost_source,
        replay_id=job.replay.replay_id if job.replay else None,
        tags=job.tags,
        started_at=started_at,
        deadline=job.deadline,
    )


def spent(reservation: UsageEvent, result: Spent) -> UsageEvent:
    """The event that takes the reservation's place once the call has ended."""
    return changed(
        reservation,
        event="spent",
        status=result.status,
        finish_reason=result.finish_reason,
        error_code=result.error_code,
        key_alias=result.key_alias,
        usage=result.usage,
        cost_usd=result.cost_usd,
        cost_source=result.cost_source,
        timing=result.timing,
        finished_at=result.finished_at,
    )
