"""What a wire API is to the provider that speaks it: a translation both ways, without I/O."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Protocol

from millrace.providers.failures import truncated
from millrace.providers.protocol import (
    Completion,
    ModelRequest,
    ProviderEvent,
    ReasoningDelta,
    TextDelta,
)
from millrace.providers.wires.documents import (
    MISSHAPEN,
    EncodedRequest,
    ReplyLimits,
    count,
    misshapen,
    parse,
)
from millrace.providers.wires.embeddings import EmbeddingWire
from millrace.providers.wires.frames import Frames
from millrace.providers.wires.lines import too_long
from millrace.providers.wires.tool_calls import ToolCallPieces
from millrace.schemas.errors import ProviderError, ReplyInvalidError
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import FinishReason

__all__ = ["EncodedRequest", "Reply", "ReplyLimits", "Wire", "count"]


class Reply(ABC):
    """Reads one reply, fed as bytes: the same way whether it streams or comes whole."""

    end_mark: ClassVar[bytes | None] = None
    """A payload that is no JSON and ends the stream, where the wire has one."""

    __slots__ = (
        "_complete",
        "_finish",
        "_frames",
        "_limits",
        "_model",
        "_reasoning",
        "_received",
        "_refusal",
        "_response_id",
        "_text",
        "_tools",
        "_usage",
        "ended",
        "key_alias",
    )

    def __init__(self, *, frames: Frames, limits: ReplyLimits) -> None:
        self._frames = frames
        self._limits = limits
        self._received = 0
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._tools = ToolCallPieces()
        self._finish: FinishReason | None = None
        self._usage: Usage | None = None
        self._model: str | None = None
        self._response_id: Any = None
        self._complete = False
        """Whether the reply may count as whole when the body ends here."""
        self.ended = False
        """True once the wire's own end mark came: nothing after it matters."""
        self.key_alias: str | None = None
        """Whose key the completion will name."""

    def feed(self, piece: bytes) -> Iterator[ProviderEvent]:
        """Give the events that this piece of the body completes, text in a row as one delta.

        Nobody can be shown it any sooner, and each delta costs whoever handles it.

        Raises:
            ProviderError: The reply reports an error, or breaks the wire's contract.
        """
        self._received += len(piece)
        if self._received > self._limits.max_reply_bytes:
            raise too_long(self._limits.max_reply_bytes)
        text: list[str] = []
        end_mark, plain_text = self.end_mark, self._plain_text
        try:
            for payload in self._frames.feed(piece):
                if self.ended or (end_mark is not None and payload.startswith(end_mark)):
                    self.ended = True
                    break
                document = parse(payload)
                plain = plain_text(document)
                if plain is None:
                    yield from self._joined(document, text)
                else:
                    text.append(plain)
        except ProviderError:
            if text:
                yield TextDelta("".join(text))
            raise
        if text:
            yield TextDelta("".join(text))

    def _joined(self, document: Any, text: list[str]) -> Iterator[ProviderEvent]:
        """The events of a payload but its text, which goes to `text` and comes before others."""
        try:
            for event in self._read(document):
                if type(event) is TextDelta:
                    text.append(event.text)
                    continue
                if text:
                    yield TextDelta("".join(text))
                    text.clear()
                yield event
        except MISSHAPEN as error:
            raise misshapen(error) from error

    def close(self) -> Iterator[ProviderEvent]:
        """Give what the end of the body completes, and last the completion.

        Raises:
            ProviderUnavailableError: The reply broke off; its code is `stream_truncated`.
            ProviderError: As `feed`.
        """
        if not self.ended:
            yield from self._read_rest()
        if not (self._complete or self.ended):
            raise truncated()
        try:
            completion = self._completion()
        except MISSHAPEN as error:
            raise misshapen(error) from error
        yield completion

    def _read_rest(self) -> Iterator[ProviderEvent]:
        for payload in self._frames.close():
            if self.end_mark is not None and payload.startswith(self.end_mark):
                self.ended = True
                return
            try:
                document = parse(payload)
            except ReplyInvalidError as error:
                raise truncated() from error
            try:
                yield from self._read(document)
            except MISSHAPEN as error:
                raise misshapen(error) from error

    @abstractmethod
    def _read(self, document: Any) -> Iterator[ProviderEvent]:
        """Translate one JSON payload."""

    def _plain_text(self, document: Any) -> str | None:  # noqa: ARG002 (for wires that have one)
        """Take a payload that brings a piece of text and nothing else: `_read` in short.

        None, and nothing taken, for any other, also a misshapen one. Most payloads of a stream
        bring nothing but text.
        """
        return None

    def _add_text(self, text: Any) -> TextDelta:
        """Add to the answer; whatever is no text does not have the wire's shape."""
        if type(text) is not str:
            raise TypeError(f"text is {type(text).__name__}")
        self._text.append(text)
        return TextDelta(text)

    def _add_reasoning(self, text: Any) -> ReasoningDelta:
        """Add to the reasoning, likewise."""
        if type(text) is not str:
            raise TypeError(f"reasoning is {type(text).__name__}")
        self._reasoning.append(text)
        return ReasoningDelta(text)

    def _reported_cost(self) -> Decimal | None:
        return None

    def _load_ms(self) -> float | None:
        return None

    def _token_probability(self) -> float | None:
        return None

    def _completion(self) -> Completion:
        finish, response_id = self._finish, self._response_id
        if self._tools and finish in (None, "stop"):
            # Some vendors say `stop`, or nothing, although the turn ends in tool calls.
            finish = "tool_calls"
        return Completion(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            refusal="".join(self._refusal),
            tool_calls=self._tools.calls(),
            finish_reason=finish,
            usage=self._usage,
            reported_cost_usd=self._reported_cost(),
            model=self._model,
            response_id=response_id if type(response_id) is str else None,
            token_probability=self._token_probability(),
            load_ms=self._load_ms(),
            key_alias=self.key_alias,
        )


class Wire(Protocol):
    """A wire API. Stateless: one instance serves all calls of a provider entry."""

    check_path: str
    """What to GET, below the base URL, to see that the server is there and takes the key."""
    headers: Mapping[str, str]
    """What every request carries besides the key."""

    @property
    def embeddings(self) -> EmbeddingWire | None:
        """The same for embeddings; None where the wire has none."""
        ...

    def authorization(self, key: str) -> tuple[str, str]:
        """The header that carries the key."""
        ...

    def encode(self, request: ModelRequest) -> EncodedRequest:
        """Translate the request.

        Raises:
            RequestRefusedError: The wire cannot carry a part of it; the message says which.
        """
        ...

    def reply(self, request: ModelRequest, headers: Mapping[str, str]) -> Reply:
        """A reader for the reply to this request; `headers` are the reply's."""
        ...
