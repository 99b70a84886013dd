"""What the joins read, one topic so that its order decides: `llm.outcomes`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from millrace.schemas.call import AttemptSummary, Call, Job, Plan
from millrace.schemas.embedding import Vectors
from millrace.schemas.errors import ErrorInfo, InvalidEventError
from millrace.schemas.message import ToolCall
from millrace.schemas.record import Instant, Record, describe
from millrace.schemas.request import ReplayRef
from millrace.schemas.unchecked import unchecked
from millrace.schemas.usage import Money, Timing, Usage
from millrace.schemas.vocabulary import (
    AttemptStatus,
    CancelledScope,
    CostSource,
    FinishReason,
    Strategy,
    TaskType,
)

_summary = unchecked(AttemptSummary)

_CALL = {"call"}
_OWN_ATTEMPT = b'{"kind":"attempt",'
"""How most of them begin. Told which record it is, pydantic validates while it parses; else it
parses the whole value first, to look for the kind: a third of the time."""


class AttemptOutcome(Record):
    """How one invocation of a call ended."""

    schema_name: ClassVar[str] = "outcome"
    leaves_out_none: ClassVar[bool] = True

    kind: Literal["attempt"] = "attempt"
    call: Call
    invocation: str
    """Names the HTTP call that was made: a redelivered call makes another one, and pays again."""
    status: AttemptStatus
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    embeddings: Vectors = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    """None when no request was sent, so nothing can have been spent."""
    cost_usd: Money | None = None
    cost_source: CostSource = "unknown"
    timing: Timing = Timing()
    error: ErrorInfo | None = None
    response_id: str | None = None
    token_probability: float | None = Field(default=None, ge=0, le=1)
    """The geometric mean of the answer's tokens' probabilities; None where the wire has none."""
    cancelled: CancelledScope | None = None
    """What was cancelled, where the attempt was; None (an older writer's) means the request."""
    chunks: int = Field(default=0, ge=0)
    """How many chunks of this invocation were written."""
    finished_at: Instant

    def encode_around(self, call: bytes) -> bytes:
        """As `encode`, given the JSON of its call as it was read: more than half of an outcome."""
        rest = self.__pydantic_serializer__.to_json(self, exclude_none=True, exclude=_CALL)
        return b'%b"call":%b,%b' % (_OWN_ATTEMPT, call, rest[len(_OWN_ATTEMPT) :])

    @property
    def request_id(self) -> str:
        """The request this belongs to."""
        return self.call.job.request_id

    def summary(self, error: ErrorInfo | None = None) -> AttemptSummary:
        """This attempt as the terminal record lists it; `error` tells what validation found."""
        failed = error is not None and self.status == "completed"
        call = self.call
        target = call.target
        return _summary(
            member=call.member,
            attempt=call.attempt,
            provider=target.provider,
            model=target.model,
            status="failed" if failed else self.status,
            error=error or self.error,
            usage=self.usage,
            cost_usd=self.cost_usd,
            role=call.role,
            tier=target.tier,
            repair=call.brief is not None and call.brief.repairs > 0,
        )


class Refusal(Record):
    """The router ends a request without a call: it was bad, impossible, or too late."""

    schema_name: ClassVar[str] = "refusal"

    kind: Literal["refusal"] = "refusal"
    request_id: str
    status: Literal["rejected", "expired"]
    error: ErrorInfo
    task: TaskType | None = None
    team: str | None = None
    strategy: Strategy | None = None
    reply_to: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    replay: ReplayRef | None = None
    refused_at: Instant


class JoinOpened(Record):
    """The router announces a join before its members' calls, so that the clock can end it."""

    schema_name: ClassVar[str] = "join-opened"
    leaves_out_none: ClassVar[bool] = True

    kind: Literal["opened"] = "opened"
    job: Job
    plan: Plan
    opened_at: Instant | None = None
    """When the members' calls were written; None (an older writer's): when the job was accepted."""

    @property
    def request_id(self) -> str:
        """The request this belongs to."""
        return self.job.request_id


class JoinTimeout(Record):
    """The clock's decision that time is up, written before it is acted upon.

    `due` says for what: for the request at its deadline, before that for the members of a stage.
    """

    schema_name: ClassVar[str] = "join-timeout"

    kind: Literal["timeout"] = "timeout"
    request_id: str
    due: Instant


OutcomeRecord = AttemptOutcome | Refusal | JoinOpened | JoinTimeout

_ADAPTER: TypeAdapter[OutcomeRecord] = TypeAdapter(
    Annotated[OutcomeRecord, Field(discriminator="kind")]
)


def decode_outcome(value: bytes) -> OutcomeRecord:
    """Read any record of `llm.outcomes`.

    Raises:
        InvalidEventError: The value is none of them.
    """
    try:
        if value.startswith(_OWN_ATTEMPT):
            return AttemptOutcome.model_validate_json(value)
        return _ADAPTER.validate_json(value)
    except ValidationError as error:
        raise InvalidEventError(
            f"not a valid outcome record: {describe(error)}", code="internal_record_invalid"
        ) from error
