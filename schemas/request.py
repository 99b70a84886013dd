"""What a service asks: the public record on `llm.requests`."""

from typing import Annotated, Any, ClassVar, Literal, Self, cast, get_args

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from millrace.schemas.embedding import Dimensions, Inputs
from millrace.schemas.message import Message, ToolDefinition
from millrace.schemas.record import Frozen, Instant, Record
from millrace.schemas.usage import Money
from millrace.schemas.vocabulary import (
    Capability,
    EnsembleMode,
    HardwareWish,
    OutputFormat,
    Sensitivity,
    Strategy,
    TaskType,
)

Name = Annotated[str, Field(min_length=1, max_length=200)]
RequestId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s/]+$")]
"""Any text without white space or `/` (which separates the parts of an attempt's id)."""


EMBEDDING_STRATEGIES: frozenset[Strategy] = frozenset(
    {"auto", "local_only", "cloud_only", "local_first", "cloud_first"}
)
"""Vectors of several models cannot be compared, so there is nothing to vote on or to improve."""

_SOURCES = ("prompt", "messages", "template", "inputs")
_SOURCES_NAMED = "prompt, messages, template and inputs"
_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)
_TASKS: frozenset[str] = frozenset(get_args(TaskType))


def is_request_id(value: str) -> bool:
    """Whether a text can be a request's id."""
    try:
        _REQUEST_ID.validate_python(value)
    except ValidationError:
        return False
    return True


def as_task(value: Any) -> TaskType | None:
    """The value as a task type, None when it is none."""
    return cast("TaskType", value) if isinstance(value, str) and value in _TASKS else None


class Route(Frozen):
    """Where the work may go. `providers` and `models` bind, the `prefer_` ones only order."""

    strategy: Strategy = "auto"
    providers: tuple[Name, ...] = ()
    models: tuple[Name, ...] = ()
    prefer_providers: tuple[Name, ...] = ()
    prefer_models: tuple[Name, ...] = ()
    hardware: HardwareWish = "any"
    capabilities: tuple[Capability, ...] = ()
    sensitivity: Sensitivity = "normal"
    max_cost_usd: Money | None = None
    max_latency_s: Annotated[float, Field(gt=0)] | None = None
    members: Annotated[int, Field(ge=2, le=16)] | None = None
    """How many models an ensemble asks; the router picks them from different providers."""
    mode: EnsembleMode = "vote"
    quorum: Annotated[int, Field(ge=1, le=16)] | None = None
    """How many members must have answered for a decision; more than half of them when unset."""


class Parameters(Frozen):
    """Sampling parameters; those left out are the provider's defaults."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tool_choice: Literal["auto", "none", "required"] | None = None


class OutputSpec(Frozen):
    """What the answer must look like. A `schema` implies `json`."""

    format: OutputFormat = "text"
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _schema_needs_json(self) -> Self:
        if self.json_schema is not None and self.format != "json":
            raise ValueError("a schema needs format 'json'")
        return self


class ReplayRef(Frozen):
    """Marks a request as sent again by `millrace replay`, apart from live work and spend."""

    replay_id: Name
    original_request_id: Name


def as_replay(value: Any) -> ReplayRef | None:
    """The value as the mark of a replay, None when it is none."""
    try:
        return ReplayRef.model_validate(value)
    except ValidationError:
        return None


class Request(Record):
    """Work for a language model. `{"prompt": "…"}` is enough; every other field has a default."""

    schema_name: ClassVar[str] = "request"

    request_id: RequestId | None = None
    task: TaskType = "general"
    team: Name | None = None
    budget_key: Name | None = None
    """Whose budget pays; the team's when unset."""
    conversation_id: Name | None = None
    prompt: Annotated[str, Field(min_length=1)] | None = None
    messages: Annotated[tuple[Message, ...], Field(min_length=1)] | None = None
    template: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(@[1-9][0-9]*)?$")] | None = None
    """`name` or `name@version`; the newest version when none is given."""
    variables: dict[str, Any] = Field(default_factory=dict)
    inputs: Inputs | None = None
    """Texts to turn into vectors, in place of a question."""
    dimensions: Dimensions | None = None
    """The length of those vectors, where the model lets it be chosen; its own when unset."""
    tools: tuple[ToolDefinition, ...] = ()
    route: Route = Route()
    parameters: Parameters = Parameters()
    output: OutputSpec = OutputSpec()
    deadline: Instant | None = None
    stream: bool = False
    reply_to: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")] | None = None
    """A topic that receives the terminal record besides `llm.responses`."""
    tags: Annotated[dict[str, str], Field(max_length=50)] = Field(default_factory=dict)
    replay: ReplayRef | None = None

    @model_validator(mode="after")
    def _one_source_of_text(self) -> Self:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"give exactly one of {_SOURCES_NAMED}; found {found}")
        if self.variables and self.template is None:
            raise ValueError("variables need a template")
        return self

    @model_validator(mode="after")
    def _vectors_only_for_inputs(self) -> Self:
        route = self.route
        if self.inputs is None:
            if self.dimensions is not None:
                raise ValueError("dimensions need inputs")
            if "embeddings" in route.capabilities:
                raise ValueError("the capability 'embeddings' needs inputs")
            return self
        meaningless = {
            "stream": self.stream,
            "tools": self.tools,
            "parameters": self.parameters != Parameters(),
            "output": self.output != OutputSpec(),
            f"route.strategy {route.strategy!r}": route.strategy not in EMBEDDING_STRATEGIES,
            "route.members": route.members is not None,
            "route.quorum": route.quorum is not None,
        }
        found = [name for name, given in meaningless.items() if given]
        if found:
            raise ValueError(f"inputs are turned into vectors: leave out {', '.join(found)}")
        return self
