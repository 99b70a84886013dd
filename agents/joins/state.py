"""What a join keeps of a request, and what follows from a record about it."""

from typing import Any, Literal, NamedTuple

from pydantic import Field

from millrace.schemas.call import AttemptSummary, Call, Job, Plan
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.chunk import Chunk
from millrace.schemas.embedding import Vectors
from millrace.schemas.message import ToolCall
from millrace.schemas.record import Frozen, Instant
from millrace.schemas.response import Quality, Response, TierResult
from millrace.schemas.usage import Timing
from millrace.schemas.vocabulary import FinishReason

WithoutAnswer = Literal["failed", "cancelled", "timed_out", "skipped"]


class Stream(Frozen):
    """The chunks of an answer, so that it can be said that they are void."""

    attempt: int
    invocation: str
    provider: str
    model: str
    chunks: int


class Answer(Frozen):
    """A valid answer."""

    text: str
    data: Any = None
    tool_calls: tuple[ToolCall, ...] = ()
    vectors: Vectors = ()
    """Of a member that was given the others' answers to embed: one for each."""
    finish_reason: FinishReason | None = None
    timing: Timing = Timing()
    quality: Quality = Quality(score=1.0)
    provider: str = ""
    model: str = ""
    tier: int = 0
    stream: Stream | None = None
    """None where no chunk of it was sent."""


class Member(Frozen):
    """What is known of one member."""

    decided: int = 0
    """The last attempt that was decided; 0 before any."""
    done: bool = False
    answer: Answer | None = None
    without: WithoutAnswer | None = None
    """Why a member that is done has no answer."""
    attempts: tuple[AttemptSummary, ...] = ()
    rejected: str = ""
    """The text of the last answer that was not valid; the requester has paid for it."""
    tiers: tuple[TierResult, ...] = ()
    """How far the answers of a cascade's tiers were trusted."""
    awaiting: Answer | None = None
    """An answer of a cascade whose model is being asked how sure it is."""


class JoinState(Frozen):
    """What is known of one request."""

    applied: int
    """Offset of the last record that changed this state."""
    ended: bool = False
    touched_at: Instant
    members: dict[int, Member] = Field(default_factory=dict)
    job: Job | None = None
    """Kept for requests with several members or tiers."""
    plan: Plan | None = None
    stage: int = 0
    """Whose members have been called."""
    stage_since: Instant | None = None
    """When they were; None: when the job was accepted."""
    unsettled: bool = False
    """Whether calls were given up that had not ended: what they cost is not in any attempt."""
    announced: bool = False
    """Whether the router's announcement has been read."""
    notes: tuple[str, ...] = ()
    """What did not go as planned."""

    def member(self, number: int) -> Member:
        """What is known of a member; nothing before its first outcome."""
        return self.members.get(number, Member())

    def with_member(self, number: int, member: Member) -> "JoinState":
        """The same but for one member."""
        return self.model_copy(update={"members": {**self.members, number: member}})


class Decision(NamedTuple):
    """What follows from a record: the state to keep, and what to send."""

    state: JoinState | None
    """None: the record changed nothing."""
    calls: tuple[Call, ...] = ()
    response: Response | None = None
    reply_to: str | None = None
    cancellation: Cancellation | None = None
    """Stops members that are not needed any more."""
    restarted: Chunk | None = None
    """Tells readers that the answer they have seen is not the last."""
    ignored: str | None = None
    """Why nothing follows, for the log."""
