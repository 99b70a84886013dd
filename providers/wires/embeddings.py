"""What the embeddings of a wire API are: a batch of texts one way, their vectors the other."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from millrace.providers.failures import from_document
from millrace.providers.protocol import EmbeddingReply, EmbeddingRequest
from millrace.providers.tokens import estimate_text
from millrace.providers.wires.documents import MISSHAPEN, EncodedRequest, misshapen, parse
from millrace.schemas.errors import ReplyInvalidError, RequestRefusedError
from millrace.schemas.usage import Usage

_NUMBERS = frozenset({float, int})


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A reply as one wire has it, before it is checked."""

    vectors: list[Any]
    """In the order of the inputs."""
    input_tokens: int | None
    """None where the reply does not say."""
    reported_cost_usd: Decimal | None = None
    model: str | None = None
    load_ms: float | None = None


class EmbeddingWire(ABC):
    """A wire's embeddings. Stateless: one instance serves all calls of a provider entry."""

    name: ClassVar[str]
    max_inputs: ClassVar[int | None]
    """The most inputs that one request may hold; None where the wire sets no limit."""

    def encode(self, request: EmbeddingRequest) -> EncodedRequest:
        """Translate the request.

        Raises:
            RequestRefusedError: There are too many inputs, none, or an empty one.
        """
        number = len(request.inputs)
        if not number:
            raise RequestRefusedError("there is nothing to embed: give at least one input")
        if self.max_inputs is not None and number > self.max_inputs:
            raise RequestRefusedError(
                f"the {self.name} wire embeds at most {self.max_inputs} inputs in one request, "
                f"not {number}: send them in several"
            )
        if "" in request.inputs:
            raise RequestRefusedError(
                f"input {request.inputs.index('')} of {number} is empty: leave it out"
            )
        return self._encode(request)

    def read(
        self, request: EmbeddingRequest, body: bytes, headers: Mapping[str, str]
    ) -> EmbeddingReply:
        """Translate the reply; every input has its vector, all of one length.

        Raises:
            ProviderError: The reply reports an error, or breaks the wire's contract.
        """
        document = parse(body)
        try:
            if document.get("error"):
                raise from_document(document)
            found = self._read(document, headers)
            vectors = tuple(map(_vector, found.vectors))
        except MISSHAPEN as error:
            raise misshapen(error) from error
        _check(vectors, request)
        return EmbeddingReply(
            vectors=vectors,
            usage=_usage(request, found.input_tokens),
            reported_cost_usd=found.reported_cost_usd,
            model=found.model,
            load_ms=found.load_ms,
        )

    @abstractmethod
    def _encode(self, request: EmbeddingRequest) -> EncodedRequest:
        """Write the request."""

    @abstractmethod
    def _read(self, document: Any, headers: Mapping[str, str]) -> Embedded:
        """Read the reply; `headers` are the reply's."""


def _vector(raw: Any) -> tuple[float, ...]:
    if type(raw) is not list or not set(map(type, raw)) <= _NUMBERS:
        raise TypeError("a vector is a list of numbers")
    return tuple(map(float, raw))


def _check(vectors: tuple[tuple[float, ...], ...], request: EmbeddingRequest) -> None:
    if len(vectors) != len(request.inputs):
        raise ReplyInvalidError(
            f"the reply has {len(vectors)} vectors for {len(request.inputs)} inputs"
        )
    lengths = set(map(len, vectors))
    if len(lengths) > 1 or 0 in lengths:
        raise ReplyInvalidError(f"the reply has vectors of {sorted(lengths)} numbers")
    if request.dimensions is not None and lengths != {request.dimensions}:
        raise ReplyInvalidError(
            f"the reply has vectors of {lengths.pop()} numbers instead of {request.dimensions}: "
            "the model does not take the setting `dimensions`"
        )


def _usage(request: EmbeddingRequest, counted: int | None) -> Usage:
    if counted is not None:
        return Usage(input_tokens=counted)
    return Usage(input_tokens=sum(map(estimate_text, request.inputs)), source="estimated")
