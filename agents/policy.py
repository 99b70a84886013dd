"""What the operator decides about requests and routes; each model is a section of the config."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel, model_validator

from millrace.schemas.record import Frozen
from millrace.schemas.request import MAX_MEMBERS, MAX_PARTS, Request, Seconds, Share, Weight
from millrace.schemas.vocabulary import (
    ConfidenceSource,
    EnsembleMode,
    Lane,
    Strategy,
    TaskType,
    VoteBy,
)

Pattern = Annotated[str, Field(min_length=1)]
"""A name, or a pattern in which `*`, `?` and `[…]` match as in the shell (fnmatch)."""

Quality = Annotated[int, Field(ge=0, le=100)]
"""An operator's rating of a model."""

RouteName = TaskType | Literal["default"]

_TEN_YEARS = 315_360_000


class TaskRoute(Frozen):
    """How requests of one task are routed: `[routes.<task>]`.

    What a task's section leaves out is taken from `[routes.default]`; what a request's `route`
    says comes before either.
    """

    strategy: Strategy = "auto"
    """For requests that ask for `auto`; those that name another strategy get that one."""
    candidates: tuple[Pattern, ...] = ()
    """`provider/model` patterns in order of preference, such as `ollama-*/*`."""
    allow_unlisted: bool = True
    """Whether other models that fit may follow those listed, in the order of `order_by`."""
    order_by: Literal["quality", "price"] = "quality"
    """The best first, or the cheapest first; of equals, the other one decides."""
    min_quality: Quality = 0
    """The least rating of a model that may answer."""
    complex_min_quality: Quality | None = None
    """The same for the most complex requests; those between get a bar between."""
    max_candidates: Annotated[int, Field(ge=1, le=16)] = 4
    """How many models are tried in turn, for each member of an ensemble and each tier."""
    fallbacks: tuple[Pattern, ...] = ()
    """Models tried after all others, whatever their rating and whether they are listed."""
    default_model: Pattern | None = None
    """Asked when no other model fits, though it may lack what was asked for. Never where it
    would leave the hardware asked for, cost too much or be too small. Unset: a refusal."""
    max_local_lag: Annotated[int, Field(ge=0)] | None = None
    """`local_first`: with more calls than these waiting at a local entry, the cloud comes first."""
    members: Annotated[int, Field(ge=2, le=MAX_MEMBERS)] = 3
    """How many models an ensemble or a race asks when the request does not say."""
    min_members: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] = 2
    """With how few the work is begun when no more fit, and the request does not say."""
    mode: EnsembleMode = "vote"
    """What an ensemble does with the answers."""
    quorum: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] | None = None
    """How many members must answer when the request does not say; more than half when unset."""
    member_timeout_s: Seconds | None = None
    """How long the members of a stage have; until the deadline when unset."""
    vote_by: VoteBy = "normalized"
    """When two answers of a vote count as the same."""
    vote_field: str | None = None
    """Of JSON answers, for votes by `field`."""
    vote_similarity: Share = 0.85
    """How alike two answers must be, for votes by `similarity` or `embedding`."""
    embedder: tuple[Pattern, ...] = ()
    """Whose vectors say how alike, for votes by `embedding`, in order of preference; other models
    that make vectors follow."""
    weights: dict[Pattern, Weight] = Field(default_factory=dict)
    """What models' answers count in mode `weighted`; else a hundredth of their rating."""
    judge: tuple[Pattern, ...] = ()
    """Who judges, merges, plans or combines, in order of preference; those with the best rating
    follow. Mode `best_of` goes by the validator's score when neither this nor the request
    names a judge."""
    tiers: tuple[tuple[Pattern, ...], ...] = ()
    """The tiers of cascades, cheapest first, as lists of patterns; by the models' own `tier`
    when empty, or else by price and quality."""
    max_tiers: Annotated[int, Field(ge=2, le=8)] = 3
    """How many tiers are made where price and quality decide."""
    confidence: ConfidenceSource = "score"
    """What tells whether an answer of a cascade is good enough."""
    thresholds: Annotated[tuple[Share, ...], Field(min_length=1, max_length=16)] = (0.7,)
    """The least confidence by tier, cheapest first; the last one holds for the rest."""
    skip_tier_from: Share | None = None
    """A request of this complexity, 0 to 1, or more passes a cascade's first tier over."""
    max_parts: Annotated[int, Field(ge=1, le=MAX_PARTS)] = 4
    """Into how many parts `delegate` may divide a request."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "TaskRoute":
        if (self.vote_by == "field") != (self.vote_field is not None):
            raise ValueError("vote_by 'field' goes with vote_field, and nothing else does")
        if self.complex_min_quality is not None and self.complex_min_quality < self.min_quality:
            raise ValueError("complex_min_quality must not be below min_quality")
        return self


class RoutePolicy(RootModel[dict[RouteName, TaskRoute]]):
    """The table of routes: `[routes.default]` and `[routes.<task>]`."""

    model_config = ConfigDict(frozen=True)

    root: dict[RouteName, TaskRoute] = Field(default_factory=dict)

    def for_task(self, task: TaskType) -> TaskRoute:
        """The route of a task: its own section over the default one."""
        default = self.root.get("default", TaskRoute())
        own = self.root.get(task)
        if own is None:
            return default
        given = {name: getattr(own, name) for name in own.model_fields_set}
        return default.model_copy(update=given)

    def section(self, task: TaskType) -> str:
        """Where the operator finds the candidates of a task."""
        return f"routes.{task}" if task in self.root else "routes.default"


class ClassificationPolicy(Frozen):
    """Who says what kind of work a request is, where the rules are not sure: `[classification]`."""

    models: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Names, as `model` or `provider/model`; the best of them that may see the request is asked,
    local ones first. None: the rules decide alone."""
    below: Share = 0.6
    """Asked where the rules are less sure than this."""


class RequestPolicy(Frozen):
    """What requests may ask for: `[requests]`."""

    reply_to: tuple[Pattern, ...] = ("*replies*",)
    """Patterns of topics that a request may name in `reply_to`. The pipeline's own topics are
    refused whatever stands here. An empty list refuses all."""
    default_deadline_seconds: Annotated[float, Field(gt=0, le=_TEN_YEARS)] = 600.0
    """From the request's time stamp, for requests that name no deadline."""
    max_deadline_seconds: Annotated[float, Field(gt=0, le=_TEN_YEARS)] = 86_400.0
    """A deadline further away is brought forward to this, so that no work waits for ever."""
    max_request_bytes: Annotated[int, Field(ge=1_000)] = 900_000
    """Of a request's record, and of the messages its template makes. Below the 1 MB that
    brokers take by default, as the plan travels along."""

    team_lanes: dict[str, Lane] = Field(default_factory=dict)
    """The lane of a team's requests that name none."""
    task_lanes: dict[TaskType, Lane] = Field(default_factory=dict)
    """The lane of a task's requests that name none and whose team has none."""

    def lane(self, request: Request, task: TaskType) -> Lane:
        """Which lane a request goes in: its own, its team's, its task's, else `interactive`.

        Replayed requests are `batch` unless they say otherwise: live work goes first.
        """
        if request.lane is not None:
            return request.lane
        if request.replay is not None:
            return "batch"
        by_team = self.team_lanes.get(request.team) if request.team is not None else None
        return by_team or self.task_lanes.get(task, "interactive")

    @model_validator(mode="after")
    def _default_within_bounds(self) -> "RequestPolicy":
        if self.default_deadline_seconds > self.max_deadline_seconds:
            raise ValueError("default_deadline_seconds must not exceed max_deadline_seconds")
        return self
