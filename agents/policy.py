"""What the operator decides about requests and routes; each model is a section of the config."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel, field_validator, model_validator

from millrace.schemas.record import Frozen
from millrace.schemas.request import Request
from millrace.schemas.vocabulary import Lane, Strategy, TaskType

Pattern = Annotated[str, Field(min_length=1)]
"""A name, or a pattern in which `*`, `?` and `[…]` match as in the shell (fnmatch)."""

RouteName = TaskType | Literal["default"]

_TEN_YEARS = 315_360_000


class TaskRoute(Frozen):
    """How requests of one task are routed: `[routes.<task>]`.

    What a task's section leaves out is taken from `[routes.default]`.
    """

    strategy: Strategy = "auto"
    """For requests that ask for `auto`; those that name another strategy get that one."""
    candidates: tuple[Pattern, ...] = ()
    """`provider/model` patterns in order of preference, such as `ollama-*/*`."""
    allow_unlisted: bool = True
    """Whether other models that fit may follow those listed, by quality and then by price."""
    max_candidates: Annotated[int, Field(ge=1, le=16)] = 4
    """How many models are tried in turn, for each member of an ensemble."""
    members: Annotated[int, Field(ge=2, le=16)] = 3
    """How many models an ensemble asks when the request does not say. Fewer, but at least two,
    when no more fit."""
    quorum: Annotated[int, Field(ge=1, le=16)] | None = None
    """How many members must answer when the request does not say; more than half when unset."""

    @field_validator("strategy")
    @classmethod
    def _available(cls, strategy: Strategy) -> Strategy:
        if strategy in {"parallel", "cascade"}:
            raise ValueError(f"strategy {strategy!r} is not available yet")
        return strategy


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
