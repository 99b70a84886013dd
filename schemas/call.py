"""One planned model call, with everything needed to go on from it: `llm.calls.<provider>`.

The plan travels inside the message, so that fallback needs no shared state.
"""

from typing import ClassVar

from pydantic import Field

from millrace.schemas.embedding import Dimensions
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.ids import attempt_id
from millrace.schemas.message import Message, ToolDefinition
from millrace.schemas.record import TRACE_HEADER, Frozen, Headers, Instant, Record
from millrace.schemas.request import OutputSpec, Parameters, ReplayRef
from millrace.schemas.usage import Money, Usage
from millrace.schemas.vocabulary import (
    AttemptStatus,
    EnsembleMode,
    Hardware,
    Sensitivity,
    Strategy,
    TaskType,
)


class PromptRef(Frozen):
    """Which template, in which version, made the messages; `sha256` of the template's text."""

    name: str
    version: int
    sha256: str


class Job(Frozen):
    """A request as the pipeline works on it: checked, rendered, with its deadline fixed."""

    request_id: str
    task: TaskType
    team: str | None = None
    budget_key: str | None = None
    conversation_id: str | None = None
    messages: tuple[Message, ...]
    """None where there are inputs."""
    inputs: tuple[str, ...] = ()
    """Texts to turn into vectors, in place of messages."""
    dimensions: Dimensions | None = None
    tools: tuple[ToolDefinition, ...] = ()
    parameters: Parameters = Parameters()
    output: OutputSpec = OutputSpec()
    stream: bool = False
    reply_to: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    prompt: PromptRef | None = None
    replay: ReplayRef | None = None
    sensitivity: Sensitivity = "normal"
    accepted_at: Instant
    """The time stamp of the request's record, so that redelivery decides the same."""
    deadline: Instant
    traceparent: str | None = None
    """The request's header of that name (W3C Trace Context); it goes on with all that follows."""

    def trace_headers(self) -> Headers:
        """The headers by which records about this job belong to the requester's trace."""
        return ((TRACE_HEADER, self.traceparent.encode()),) if self.traceparent else ()


class Candidate(Frozen):
    """A model of a provider entry that may do the work."""

    provider: str
    model: str
    hardware: Hardware


class MemberPlan(Frozen):
    """The candidates of one member, tried in order."""

    candidates: tuple[Candidate, ...] = Field(min_length=1)


class PassedOver(Frozen):
    """A model that was not chosen, and why."""

    provider: str
    model: str
    reason: str


class Plan(Frozen):
    """What the router decided. All strategies but ensembles have one member."""

    strategy: Strategy
    members: tuple[MemberPlan, ...] = Field(min_length=1)
    mode: EnsembleMode | None = None
    quorum: int = 1
    reasons: tuple[str, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()


class AttemptSummary(Frozen):
    """An attempt as the terminal record lists it."""

    member: int = 0
    attempt: int
    provider: str
    model: str
    status: AttemptStatus
    error: ErrorInfo | None = None
    usage: Usage | None = None
    cost_usd: Money | None = None


class Call(Record):
    """Ask this provider for this attempt of this member."""

    schema_name: ClassVar[str] = "call"

    job: Job
    plan: Plan
    member: int = Field(default=0, ge=0)
    attempt: int = Field(default=1, ge=1)
    candidate: int = Field(default=0, ge=0)
    """Index into the member's candidates."""
    history: tuple[AttemptSummary, ...] = ()
    """This member's earlier attempts."""
    budgets: tuple[str, ...] = ()
    """The budgets that hold a reservation for this attempt, to be told what it cost."""
    claimed_as: str | None = None
    """The earlier attempt at the same model for which it was made; None: for this one."""

    @property
    def attempt_id(self) -> str:
        """`request_id/member/attempt`."""
        return attempt_id(self.job.request_id, self.member, self.attempt)

    @property
    def target(self) -> Candidate:
        """Whom to ask."""
        return self.plan.members[self.member].candidates[self.candidate]

    @property
    def next_candidate(self) -> int | None:
        """The index of whom to ask if this one fails, or None when it is the last."""
        index = self.candidate + 1
        return index if index < len(self.plan.members[self.member].candidates) else None

    def following(self, *, candidate: int, failed: AttemptSummary) -> "Call":
        """The call after this one failed."""
        return self.model_copy(
            update={
                "attempt": self.attempt + 1,
                "candidate": candidate,
                "history": (*self.history, failed),
                "budgets": (),
                "claimed_as": None,
            }
        )
