"""The terminal record: `llm.responses`, `reply_to`, and `llm.evaluations` for replays."""

from typing import Any, ClassVar

from pydantic import Field

from millrace.schemas.call import AttemptSummary, Plan, PromptRef
from millrace.schemas.embedding import Vectors
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.message import ToolCall
from millrace.schemas.record import Frozen, Instant, Record
from millrace.schemas.request import ReplayRef
from millrace.schemas.usage import Money, Timing, Usage
from millrace.schemas.vocabulary import (
    ConfidenceSource,
    DecidedBy,
    EnsembleMode,
    FinishReason,
    Strategy,
    TaskType,
    TerminalStatus,
)


class MemberScore(Frozen):
    """What a member's answer was worth."""

    member: int
    score: float
    """The validator's, from 0 to 1."""
    weight: float = 1.0


class EnsembleVerdict(Frozen):
    """What the members of a request came to. Counted are those that were to answer it."""

    mode: EnsembleMode | None = None
    """None where the strategy is not `ensemble`."""
    members: int
    answered: int
    agreeing: tuple[int, ...] = ()
    """The members whose answer won."""
    dissenting: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    """The members that failed or had not answered when the join ended."""
    cancelled: tuple[int, ...] = ()
    """Those of the missing that were stopped: another had won, or somebody asked for it."""
    timed_out: tuple[int, ...] = ()
    """Those of the missing that took longer than a member may."""
    skipped: tuple[int, ...] = ()
    """Members that were planned and not needed."""
    partial: bool = False
    """Whether the result was made without some that were to take part in it."""
    agreement: float | None = None
    """The share of the answers, by weight, that the winner's group has."""
    decided_by: DecidedBy | None = None
    """What chose or wrote the answer; None where there is none."""
    decided_by_member: int | None = None
    """The member that answered, judged, merged, refined or combined."""
    scores: tuple[MemberScore, ...] = ()
    notes: tuple[str, ...] = ()
    """What did not go as planned, such as a judge that failed."""


class TierResult(Frozen):
    """How far an answer of a tier was trusted."""

    tier: int
    provider: str
    model: str
    confidence: float | None = None
    """From 0 to 1; None where it could not be told."""
    threshold: float | None = None
    """None for the last tier."""
    sufficed: bool = False


class CascadeVerdict(Frozen):
    """How far a cascade went."""

    confidence: ConfidenceSource
    tiers: int
    """How many there were to try."""
    tier: int | None = None
    """The one whose answer was taken."""
    sufficed: bool = False
    """Whether that answer was trusted; False where it was only the best there was."""
    results: tuple[TierResult, ...] = ()


class Quality(Frozen):
    """How well the answer keeps to what was asked, as the validator sees it."""

    score: float
    """From 0 to 1."""
    parts: dict[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What the validator had to mend."""


class Response(Record):
    """How a request ended. Exactly one is made for each accepted request."""

    schema_name: ClassVar[str] = "response"

    request_id: str
    status: TerminalStatus
    text: str = ""
    data: Any = None
    """The parsed answer, where the output format is json."""
    tool_calls: tuple[ToolCall, ...] = ()
    embeddings: Vectors = ()
    """A vector for each of the request's inputs, in their order; `text` is empty then."""
    refusal: str = ""
    """The words in which the model declined to answer, where the vendor tells them from answers."""
    finish_reason: FinishReason | None = None
    provider: str | None = None
    model: str | None = None
    task: TaskType | None = None
    team: str | None = None
    strategy: Strategy | None = None
    usage: Usage | None = None
    """The sum over all attempts; None when no call was made."""
    cost_usd: Money | None = None
    """The sum over all attempts; None when any paid attempt's cost is unknown."""
    cost_final: bool = True
    """False where calls were being stopped when the request ended, such as those that lost a race.

    They are not among the attempts: what they cost is booked when they have ended, in the ledger.
    """
    attempts: tuple[AttemptSummary, ...] = ()
    ensemble: EnsembleVerdict | None = None
    """Where several members were planned."""
    cascade: CascadeVerdict | None = None
    quality: Quality | None = None
    """Of the answer; None where there is none."""
    plan: Plan | None = None
    """What the router decided, and why; None where it came to no plan."""
    timing: Timing = Timing()
    prompt: PromptRef | None = None
    error: ErrorInfo | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    replay: ReplayRef | None = None
    accepted_at: Instant | None = None
    completed_at: Instant
