"""What each of the simulator's wires does, and what they have in common."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from millrace.providers.simulator.call import Incoming, SimulatedCall
from millrace.providers.simulator.quota import Ruling
from millrace.providers.simulator.reply import Frames, Reply
from millrace.schemas.errors import RequestRefusedError
from millrace.schemas.record import describe

Caching = Literal["by_itself", "when_asked", "never"]


class Wire(Protocol):
    """A provider's API: reads its requests, writes its replies and its errors."""

    name: str
    counts_early: bool
    """A stream says how long the prompt was before it ends."""
    stream_type: str
    """The content type of a stream."""
    plain_type: str
    """The content type of a plain reply and of an error."""
    id_header: str | None
    """The header that names the exchange."""
    broken_frame: bytes
    """A piece of a stream that does not parse."""
    error_frame: bytes
    """An error in the middle of a stream that began well."""
    caching: Caching
    """Whether long beginnings of prompts are cached."""

    def read(self, incoming: Incoming) -> SimulatedCall:
        """Read a request.

        Raises:
            RequestRefusedError: The provider would refuse it; the message says why.
        """
        ...

    def reply_id(self, sequence: int) -> str:
        """The id of the reply to the call of this number."""
        ...

    def frames(self, reply: Reply) -> Frames:
        """Write a reply as a stream."""
        ...

    def whole(self, reply: Reply) -> bytes:
        """Write a reply as one body."""
        ...

    def error(self, status: int, message: str, *, retry_after: float | None) -> bytes:
        """The body of an error status."""
        ...

    def quota_headers(self, ruling: Ruling, *, now: float) -> dict[str, str]:
        """What is left of the rate limits, where the API says so."""
        ...

    def models(self, names: Sequence[str]) -> bytes:
        """The list of models."""
        ...


class Lenient(BaseModel):
    """A part of a request, of which only what matters here is looked at."""

    model_config = ConfigDict(frozen=True, extra="allow")


_Body = TypeVar("_Body", bound=Lenient)


def read_body(kind: type[_Body], body: bytes, *, known: frozenset[str]) -> _Body:
    """Read a request's body, refusing a field that the API does not know.

    Raises:
        RequestRefusedError: It is not JSON, or does not fit.
    """
    try:
        read = kind.model_validate_json(body)
    except ValidationError as error:
        raise RequestRefusedError(f"invalid request: {describe(error)}") from error
    unknown = (read.model_extra or {}).keys() - known
    if unknown:
        raise RequestRefusedError(f"unknown field: {', '.join(sorted(unknown))}")
    return read


@lru_cache(maxsize=65_536)
def quoted(text: str) -> bytes:
    """A text as a JSON string."""
    return orjson.dumps(text)


def as_object(text: str) -> Any:
    """The arguments of a tool call as JSON; an empty object where the limit broke them off."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}


def decoded_stop(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """Stop sequences, of which some wires take a single one bare."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)
