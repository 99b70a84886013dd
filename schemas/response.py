"""The terminal record: `llm.responses`, `reply_to`, and `llm.evaluations` for replays."""

from typing import Any, ClassVar

from pydantic import Field

from millrace.schemas.call import AttemptSummary, PromptRef
from millrace.schemas.embedding import Vectors
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.message import ToolCall
from millrace.schemas.record import Frozen, Instant, Record
from millrace.schemas.request import ReplayRef
from millrace.schemas.usage import Money, Timing, Usage
from millrace.schemas.vocabulary import (
    EnsembleMode,
    FinishReason,
    Strategy,
    TaskType,
    TerminalStatus,
)


class EnsembleVerdict(Frozen):
    """How the members of an ensemble agreed."""

    mode: EnsembleMode
    members: int
    answered: int
    agreeing: tuple[int, ...] = ()
    """The members whose answer won."""
    dissenting: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    """The members that failed or had not answered when the join ended."""


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
    attempts: tuple[AttemptSummary, ...] = ()
    ensemble: EnsembleVerdict | None = None
    timing: Timing = Timing()
    prompt: PromptRef | None = None
    error: ErrorInfo | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    replay: ReplayRef | None = None
    accepted_at: Instant | None = None
    completed_at: Instant
