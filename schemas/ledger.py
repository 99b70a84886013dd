"""What a call may cost and did cost: the events on `llm.usage`."""

from typing import ClassVar, Literal

from pydantic import Field

from millrace.schemas.call import PromptRef
from millrace.schemas.errors import ErrorCode
from millrace.schemas.record import Instant, Record
from millrace.schemas.usage import Money, Timing, Usage
from millrace.schemas.vocabulary import (
    AttemptStatus,
    CostSource,
    FinishReason,
    Hardware,
    Strategy,
    TaskType,
)


class UsageEvent(Record):
    """A ledger event of one invocation.

    `reserved` is acknowledged by the broker before the provider is called, `spent` when the
    call has ended. Both carry the same `row_id`; a `reserved` that is never followed by its
    `spent` is a call lost in a crash, and stays in the books as an estimate.
    """

    schema_name: ClassVar[str] = "usage-event"

    event: Literal["reserved", "spent"]
    row_id: str
    """`request_id/member/attempt/invocation`: the ledger row, however often it is written."""
    request_id: str
    member: int = 0
    attempt: int = 1
    invocation: str
    provider: str
    model: str
    hardware: Hardware
    task: TaskType
    team: str | None = None
    budget_key: str | None = None
    strategy: Strategy
    prompt: PromptRef | None = None
    key_alias: str | None = None
    status: AttemptStatus | None = None
    """None while the call is under way."""
    finish_reason: FinishReason | None = None
    error_code: ErrorCode | None = None
    usage: Usage
    cost_usd: Money | None = None
    cost_source: CostSource = "unknown"
    timing: Timing = Timing()
    replay_id: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    started_at: Instant
    deadline: Instant
    finished_at: Instant | None = None
