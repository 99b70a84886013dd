"""What a service asks: the public record on `llm.requests`."""

from typing import Annotated, Any, ClassVar, Literal, Self, cast, get_args

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from millrace.schemas.embedding import Dimensions, Inputs
from millrace.schemas.message import Message, ToolDefinition
from millrace.schemas.record import Frozen, Instant, Record
from millrace.schemas.usage import MoneyLimit
from millrace.schemas.vocabulary import (
    Capability,
    ConfidenceSource,
    EnsembleMode,
    HardwareWish,
    Lane,
    OutputFormat,
    Sensitivity,
    Strategy,
    TaskType,
    VoteBy,
)

MAX_MEMBERS = 16
MAX_PARTS = 16

Name = Annotated[str, Field(min_length=1, max_length=200)]
RequestId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s/]+$")]
"""Any text without white space or `/` (which separates the parts of an attempt's id)."""

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
"""At most a year: no moment can be reckoned that is a large number of seconds away."""

RulePattern = Annotated[str, Field(min_length=1, max_length=512)]

EMBEDDING_STRATEGIES: frozenset[Strategy] = frozenset(
    {"auto", "local_only", "cloud_only", "local_first", "cloud_first"}
)
"""Vectors of several models cannot be compared, so there is nothing to vote on or to improve."""

OF_JOINS = (
    "members",
    "min_members",
    "mode",
    "quorum",
    "member_timeout_s",
    "vote_by",
    "vote_field",
    "vote_similarity",
    "embedder",
    "weights",
    "judge",
    "confidence",
    "thresholds",
    "min_tier",
    "max_parts",
)
"""What a route says of strategies with several members or tiers; each is unset by default."""

_UNSET: tuple[Any, ...] = (None, (), {})

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
    """Where the work may go, and how many models take part in it.

    `providers` and `models` bind, the `prefer_` ones only order. What is left out is as the
    operator's `[routes]` say.
    """

    strategy: Strategy = "auto"
    providers: tuple[Name, ...] = ()
    models: tuple[Name, ...] = ()
    prefer_providers: tuple[Name, ...] = ()
    prefer_models: tuple[Name, ...] = ()
    hardware: HardwareWish = "any"
    capabilities: tuple[Capability, ...] = ()
    sensitivity: Sensitivity = "normal"
    max_cost_usd: MoneyLimit | None = None
    """For all planned calls together, as estimated; at most a billion."""
    max_latency_s: Seconds | None = None
    """For a whole answer, as measured lately; a model that was not measured is let through."""
    min_quality: Annotated[int, Field(ge=0, le=100)] | None = None
    """The least rating, by the operator, of a model that may answer."""
    members: Annotated[int, Field(ge=2, le=MAX_MEMBERS)] | None = None
    """How many models an ensemble or a race asks; they are of different providers if possible."""
    min_members: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] | None = None
    """With how few the work is begun where not enough fit; `members` when unset."""
    mode: EnsembleMode | None = None
    """What an ensemble does with the answers."""
    quorum: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] | None = None
    """How many members must have answered for a decision; more than half of them when unset."""
    member_timeout_s: Seconds | None = None
    """How long the members of a stage have; the join goes on without those that take longer."""
    vote_by: VoteBy | None = None
    """When two answers of a vote count as the same."""
    vote_field: Name | None = None
    """Of JSON answers, for votes by `field`: a name, or several joined by dots."""
    vote_similarity: Share | None = None
    """How alike two answers must be, for votes by `similarity` or `embedding`."""
    embedder: Name | None = None
    """The model, or `provider/model`, whose vectors say how alike, for votes by `embedding`."""
    weights: Annotated[dict[Name, Weight], Field(max_length=100)] = Field(default_factory=dict)
    """What a model's answer counts in mode `weighted`, by `model` or `provider/model`."""
    judge: Name | None = None
    """The model, or `provider/model`, that judges, merges, plans or combines."""
    confidence: ConfidenceSource | None = None
    """What a cascade goes by when it asks whether an answer is good enough."""
    thresholds: Annotated[tuple[Share, ...], Field(max_length=16)] = ()
    """The least confidence of a cascade, by tier; the last one holds for the rest."""
    min_tier: Annotated[int, Field(ge=0)] | None = None
    """The tier, from 0, that a cascade begins with; the last one where there are fewer."""
    max_parts: Annotated[int, Field(ge=1, le=MAX_PARTS)] | None = None
    """Into how many parts a request may be divided by `delegate`."""

    def __hash__(self) -> int:
        """By a part: `weights` cannot be hashed. What cannot be is copied for each request."""
        return hash((self.strategy, self.providers, self.models, self.hardware))

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.vote_by is not None and (self.vote_by == "field") != (self.vote_field is not None):
            raise ValueError("vote_by 'field' goes with vote_field, and nothing else does")
        if self.min_members is not None and self.min_members > (self.members or MAX_MEMBERS):
            raise ValueError("min_members must not exceed members")
        return self


class Parameters(Frozen):
    """Sampling parameters; those left out are the provider's defaults."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    stop: tuple[str, ...] = ()
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    """Of 64 bits, as JSON is written everywhere."""
    tool_choice: Literal["auto", "none", "required"] | None = None


class OutputRules(Frozen):
    """What an answer must keep to besides its format. What is unset is not asked for."""

    min_chars: Annotated[int, Field(ge=0)] | None = None
    max_chars: Annotated[int, Field(ge=1)] | None = None
    must_match: Annotated[tuple[RulePattern, ...], Field(max_length=20)] = ()
    """Regular expressions in RE2's syntax, each to be found somewhere in the answer."""
    must_not_match: Annotated[tuple[RulePattern, ...], Field(max_length=20)] = ()
    required_keys: Annotated[tuple[Name, ...], Field(max_length=100)] = ()
    """Of a JSON answer; `a.b` is the key `b` within `a`."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] | None = None
    """What the text is written in, as ISO 639-1 has it: `en`, `de`, …"""

    @property
    def asks_nothing(self) -> bool:
        """Whether no rule is set; asked for each answer, and quicker than comparing."""
        return (
            self.min_chars is None
            and self.max_chars is None
            and self.language is None
            and not (self.must_match or self.must_not_match or self.required_keys)
        )

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        low, high = self.min_chars, self.max_chars
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_chars {low} must not exceed max_chars {high}")
        return self


class OutputSpec(Frozen):
    """What the answer must look like. A `schema` implies `json`."""

    format: OutputFormat = "text"
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    language: Annotated[str, Field(pattern=r"^[a-z0-9+#.-]{1,40}$")] | None = None
    """Of code: `python`, `sql`, … Any when unset."""
    rules: OutputRules = OutputRules()
    """Those of the task's section in the config hold besides."""
    validators: Annotated[tuple[Name, ...], Field(max_length=20)] = ()
    """Validators by name, besides those of the task's section."""
    max_repairs: Annotated[int, Field(ge=0, le=5)] | None = None
    """How often a model is told what was wrong with its answer; as configured when unset."""

    @model_validator(mode="after")
    def _parts_fit_the_format(self) -> Self:
        if self.json_schema is not None and self.format != "json":
            raise ValueError("a schema needs format 'json'")
        if self.rules.required_keys and self.format != "json":
            raise ValueError("required_keys need format 'json'")
        if self.language is not None and self.format != "code":
            raise ValueError("a language needs format 'code'; that of a text is rules.language")
        return self


PROVIDERS_OWN = Parameters()
"""Where a request says nothing of its parameters: this very object."""

PLAIN_TEXT = OutputSpec()
"""Where a request says nothing of its output: this very object."""


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
    task: TaskType | None = None
    """The template's, or else guessed from the text, when unset."""
    team: Name | None = None
    budget_key: Name | None = None
    """Whose budget pays; the team's when unset."""
    conversation_id: Name | None = None
    lane: Lane | None = None
    """How urgent it is; the operator's default for the team or task when unset."""
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
    parameters: Parameters = PROVIDERS_OWN
    output: OutputSpec = PLAIN_TEXT
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
            "parameters": self.parameters != PROVIDERS_OWN,
            "output": self.output != PLAIN_TEXT,
            f"route.strategy {route.strategy!r}": route.strategy not in EMBEDDING_STRATEGIES,
            **{f"route.{name}": getattr(route, name) not in _UNSET for name in OF_JOINS},
        }
        found = [name for name, given in meaningless.items() if given]
        if found:
            raise ValueError(f"inputs are turned into vectors: leave out {', '.join(found)}")
        return self
