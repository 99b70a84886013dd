"""One planned model call, with everything needed to go on from it: `llm.calls.<provider>`.

The plan travels inside the message, so that fallback needs no shared state.
"""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from millrace.schemas.embedding import Dimensions
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.ids import attempt_id
from millrace.schemas.message import Message, ToolDefinition
from millrace.schemas.record import TRACE_HEADER, Frozen, Headers, Instant, Record
from millrace.schemas.request import (
    PLAIN_TEXT,
    PROVIDERS_OWN,
    OutputSpec,
    Parameters,
    ReplayRef,
    Route,
    Seconds,
)
from millrace.schemas.usage import Money, Usage
from millrace.schemas.vocabulary import (
    AttemptStatus,
    ConfidenceSource,
    EnsembleMode,
    Hardware,
    Lane,
    MemberRole,
    Sensitivity,
    Strategy,
    TaskSource,
    TaskType,
    VoteBy,
)

Share = Annotated[float, Field(ge=0, le=1)]

_FOR_US: frozenset[MemberRole] = frozenset({"judge", "rate", "plan", "classify", "embed"})
"""Whose answers only the pipeline reads."""


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
    lane: Lane = "interactive"
    messages: tuple[Message, ...]
    """None where there are inputs."""
    inputs: tuple[str, ...] = ()
    """Texts to turn into vectors, in place of messages."""
    dimensions: Dimensions | None = None
    tools: tuple[ToolDefinition, ...] = ()
    # Not written where the request said nothing: reading them would be a fifth of reading a call.
    parameters: Parameters = Field(
        default=PROVIDERS_OWN, exclude_if=lambda value: value is PROVIDERS_OWN
    )
    output: OutputSpec = Field(default=PLAIN_TEXT, exclude_if=lambda value: value is PLAIN_TEXT)
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
    tier: int = Field(default=0, ge=0)
    """Of a cascade; candidates of one tier are fallbacks of each other."""


class MemberPlan(Frozen):
    """The candidates of one member, tried in order."""

    candidates: tuple[Candidate, ...] = Field(min_length=1)
    role: MemberRole = "answer"
    stage: int = Field(default=0, ge=0)
    """Members of a stage are called once all of the stage before are done."""
    weight: float = Field(default=1.0, gt=0)
    """What the member's answer counts where answers are weighed."""


class PassedOver(Frozen):
    """A model that was not chosen, and why."""

    provider: str
    model: str
    reason: str


class VoteRule(Frozen):
    """When two answers count as the same."""

    by: VoteBy = "normalized"
    field: str | None = None
    """Of the JSON answers, where the vote is by `field`: a name, or several joined by dots."""
    similarity: Share = 0.85
    """How alike two answers must be, where the vote is by `similarity` or `embedding`."""

    @model_validator(mode="after")
    def _field_is_named(self) -> Self:
        if (self.by == "field") != (self.field is not None):
            raise ValueError("a vote by 'field' names the field, and no other vote does")
        return self


class CascadeRule(Frozen):
    """When an answer of a cheaper tier is good enough."""

    confidence: ConfidenceSource = "score"
    thresholds: tuple[Share, ...] = ()
    """The least confidence, by tier; the last tier has none."""


class Plan(Frozen):
    """What the router decided. Members of later stages are in it from the start."""

    strategy: Strategy
    members: tuple[MemberPlan, ...] = Field(min_length=1)
    mode: EnsembleMode | None = None
    quorum: int = 1
    """How many members must have given a valid answer."""
    member_timeout_s: Seconds | None = None
    """How long the members of a stage have; those that took longer are left out."""
    vote: VoteRule | None = None
    cascade: CascadeRule | None = None
    max_repairs: int = Field(default=0, ge=0)
    """How often a model is told what was wrong with its answer before the next one is asked."""
    reasons: tuple[str, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    complexity: Share | None = None
    task_source: TaskSource = "named"
    task_confidence: Share | None = None
    estimated_cost_usd: Money | None = None

    @property
    def joined(self) -> bool:
        """Whether a join keeps the request's state from its beginning to its end."""
        return len(self.members) > 1 or self.cascade is not None

    def stage_members(self, stage: int) -> tuple[int, ...]:
        """The members of a stage, by number."""
        return tuple(number for number, member in enumerate(self.members) if member.stage == stage)


class Undecided(Frozen):
    """What a request is to become once its task is known."""

    route: Route
    """What it says of its route, less what the question for its task may cost."""
    plan: Plan
    """Made for the task that the rules guessed; holds where no other comes of the answer."""


class Brief(Frozen):
    """What a call asks where it is not the job as it stands."""

    role: MemberRole = "answer"
    messages: tuple[Message, ...] = ()
    """None where there are inputs."""
    inputs: tuple[str, ...] = ()
    """Texts to turn into vectors, in place of messages."""
    continues: bool = False
    """Whether the job's own messages come before these; so they need not be carried twice."""
    output: OutputSpec | None = None
    """None: the job's."""
    tools: bool = True
    """Whether the job's tools may be called."""
    parameters: Parameters | None = None
    """None: the job's."""
    repairs: int = Field(default=0, ge=0)
    """How often this model has been told what was wrong with its answer."""

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        if bool(self.messages) == bool(self.inputs):
            raise ValueError("a brief has messages or inputs")
        return self


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
    role: MemberRole = "answer"
    tier: int = 0
    repair: bool = False
    """Whether the model was told what was wrong with its answer before."""


class Call(Record):
    """Ask this provider for this attempt of this member."""

    schema_name: ClassVar[str] = "call"
    leaves_out_none: ClassVar[bool] = True

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
    brief: Brief | None = None
    """What this call asks; None: the job as it stands."""
    undecided: Undecided | None = None
    """Where the call asks for the request's task: its plan is made of the answer, and goes on with
    the next attempt of this member."""

    @model_validator(mode="after")
    def _asks_whom_the_plan_names(self) -> Self:
        members = self.plan.members
        if self.member >= len(members):
            raise ValueError(f"the plan has no member {self.member}")
        if self.candidate >= len(members[self.member].candidates):
            raise ValueError(f"member {self.member} has no candidate {self.candidate}")
        return self

    @property
    def attempt_id(self) -> str:
        """`request_id/member/attempt`."""
        return attempt_id(self.job.request_id, self.member, self.attempt)

    @property
    def target(self) -> Candidate:
        """Whom to ask."""
        return self.plan.members[self.member].candidates[self.candidate]

    @property
    def role(self) -> MemberRole:
        """What the call asks for."""
        return self.brief.role if self.brief else self.plan.members[self.member].role

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the model is sent."""
        if self.brief is None:
            return self.job.messages
        before = self.job.messages if self.brief.continues else ()
        return (*before, *self.brief.messages)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The texts that are to become vectors; none where the model is asked for an answer."""
        return self.job.inputs if self.brief is None else self.brief.inputs

    @property
    def dimensions(self) -> int | None:
        """The length that the vectors must have; None: the model's own."""
        return self.job.dimensions if self.brief is None else None

    @property
    def output(self) -> OutputSpec:
        """What the model's answer must look like."""
        return (self.brief and self.brief.output) or self.job.output

    @property
    def tools(self) -> tuple[ToolDefinition, ...]:
        """What the model may call."""
        return self.job.tools if self.brief is None or self.brief.tools else ()

    @property
    def parameters(self) -> Parameters:
        """How the model is to answer."""
        return (self.brief and self.brief.parameters) or self.job.parameters

    @property
    def stream(self) -> bool:
        """Whether tokens are sent on; what only the pipeline reads is not."""
        return self.job.stream and self.role not in _FOR_US

    @property
    def next_candidate(self) -> int | None:
        """The index of whom to ask if this one fails, or None when it is the last."""
        index = self.candidate + 1
        return index if index < len(self.plan.members[self.member].candidates) else None

    def following(self, *, candidate: int, failed: AttemptSummary) -> "Call":
        """The call after this one failed, asking the same."""
        return self.model_copy(
            update={
                "attempt": self.attempt + 1,
                "candidate": candidate,
                "history": (*self.history, failed),
                "budgets": (),
                "claimed_as": None,
            }
        )

    def asking(self, brief: Brief | None) -> "Call":
        """The same call with something else to ask; None: the job as it stands."""
        return self.model_copy(update={"brief": brief})
