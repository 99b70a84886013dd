"""What every provider adapter and every wrapper around one promises."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from millrace.providers.rate_headers import Allowances
from millrace.schemas.embedding import Vectors
from millrace.schemas.message import Message, ToolCall, ToolDefinition
from millrace.schemas.provider_health import KeyAside
from millrace.schemas.request import OutputSpec, Parameters
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import FinishReason


class Quota(Protocol):
    """The right to make one call, for adapters to tell how it is used."""

    def may_use(self, account: str) -> bool:
        """Whether this account, a key at a server, has room for the call."""
        ...

    def sent_to(self, account: str) -> None:
        """Note that the call goes out now, by this account; called once, before sending."""
        ...

    def observe(self, allowances: Allowances) -> None:
        """Note what the reply's headers say is left of the account's limits."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What to ask a model, in no provider's dialect."""

    model: str
    messages: tuple[Message, ...]
    parameters: Parameters = field(default_factory=Parameters)
    tools: tuple[ToolDefinition, ...] = ()
    output: OutputSpec = field(default_factory=OutputSpec)
    stream: bool = True
    token_probabilities: bool = False
    """Whether to ask how probable the answer's tokens were, where the wire can tell."""
    quota: Quota | None = field(default=None, compare=False, repr=False)
    """Told where the call goes and what the reply says of rate limits; no part of the request."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the model's thinking, where the wire shows it."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolArgumentsDelta:
    """A piece of a tool call; pieces with the same index belong together."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class UsageSoFar:
    """What the provider has counted up to here; replaces what it said before.

    Only for wires that count before the end, so that an interrupted call is booked well.
    """

    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The whole reply; always the last event, and sent only for a reply that is complete."""

    text: str
    reasoning: str = ""
    refusal: str = ""
    """The words in which the model declined, where the wire keeps them apart from answers."""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    """None when the provider did not say: the caller estimates then, and marks it so."""
    reported_cost_usd: Decimal | None = None
    """What the provider says it charged, where it says so."""
    model: str | None = None
    response_id: str | None = None
    token_probability: float | None = None
    """The geometric mean of the answer's tokens' probabilities, where asked for and told."""
    load_ms: float | None = None
    """How long a local server took to load the model."""
    key_alias: str | None = None
    """The environment variable whose key paid for the call; None where there was none."""
    embeddings: Vectors = ()
    """The vectors, where texts were to be embedded; all else but the text stands as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """Texts to turn into vectors, in no provider's dialect."""

    model: str
    inputs: tuple[str, ...]
    """At least one, none of them empty; each wire bounds how many there may be."""
    dimensions: int | None = None
    """The length of the vectors; the model's own when None."""
    quota: Quota | None = field(default=None, compare=False, repr=False)
    """As `ModelRequest.quota`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingReply:
    """The vectors of all inputs, in the inputs' order, all of the same length."""

    vectors: Vectors
    usage: Usage
    """Marked as estimated where the provider did not count."""
    reported_cost_usd: Decimal | None = None
    """What the provider says it charged, where it says so."""
    model: str | None = None
    load_ms: float | None = None
    """How long a local server took to load the model."""
    key_alias: str | None = None
    """The environment variable whose key paid for the call; None where there was none."""


ProviderEvent = TextDelta | ReasoningDelta | ToolArgumentsDelta | UsageSoFar | Completion


class Provider(Protocol):
    """A model server behind one wire API.

    `ask` yields deltas in order and then exactly one `Completion`, for streaming and plain
    replies alike (a plain reply may be one delta). A reply that breaks off, in whatever way,
    raises instead: there is no `Completion` for a truncated stream.

    Many calls may run at once on one instance. Closing the iterator, or cancelling the task
    that reads it, breaks the HTTP exchange off and frees its connection; `CancelledError`
    passes through. Nothing is retried here.

    Raises only `ProviderError`s, whose messages carry neither keys nor prompt text.
    """

    name: str

    def ask(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Send the request and yield the reply as it comes."""
        ...

    async def check(self) -> None:
        """Reach the server without spending money; raises `ProviderError` when it cannot be."""
        ...

    async def aclose(self) -> None:
        """Free connections. Calls still running are broken off."""
        ...


class Embedder(Protocol):
    """A model server that turns texts into vectors.

    Every `Provider` here is one as well; where a wire has no embeddings, each request is refused.
    """

    name: str

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        """Send the whole batch in one exchange and return its vectors in order.

        Nothing is split and nothing is retried here. Cancelling the task breaks the exchange off.

        Raises:
            RequestRefusedError: The wire has no embeddings, or does not take so many inputs at
                once; the message names its limit.
            ProviderError: As for `Provider.ask`.
        """
        ...


class ModelServer(Provider, Embedder, Protocol):
    """What an entry of the config file becomes."""

    @property
    def keys_set_aside(self) -> tuple[KeyAside, ...]:
        """The keys that are not used for now; a single key is never set aside."""
        ...

    @property
    def usable(self) -> bool:
        """False while every call would fail, as all keys are set aside."""
        ...

    @property
    def accounts(self) -> tuple[str, ...]:
        """The names of the keys and servers that calls are spread over, as quotas know them."""
        ...
