"""Setting a record aside whole, with where it came from and what was wrong with it."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import orjson

from millrace.schemas.dead_letter import Blob, DeadLetter, SourceHeader
from millrace.schemas.errors import BrokerError, ErrorCode, ErrorInfo, PipelineError
from millrace.schemas.record import ForeignHeaders
from millrace.streams.deliveries import Delivery
from millrace.streams.header_names import HeaderName
from millrace.streams.publisher import Publisher

Clock = Callable[[], datetime]

_SLACK = 64
"""Short texts are kept readable, whatever is in them."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class RawRecord(NamedTuple):
    """A record as it lies on a topic. A tuple, as one is made of each record that is read."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    """When it was read, where `timed` is false."""
    key: bytes | None
    value: bytes | None
    headers: ForeignHeaders = ()
    timed: bool = True
    """Whether the record itself tells its time."""


class SetAside(Protocol):
    """Whoever keeps what could not be processed."""

    async def __call__(
        self, source: RawRecord, error: PipelineError, *, request_id: str | None = None
    ) -> Delivery:
        """Keep the record; the future ends with the dead letter's delivery."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Writes to the dead-letter topic."""

    publisher: Publisher
    topic: str
    clock: Clock = utc_now
    on_letter: Callable[[ErrorCode], None] = lambda _: None

    async def __call__(
        self, source: RawRecord, error: PipelineError, *, request_id: str | None = None
    ) -> Delivery:
        """Write the record, byte for byte, under its own key.

        One that is too large even for that (compressed, it may be many times what its topic
        takes) is written without value and headers; the error says so.

        Raises:
            BrokerError: The dead letter cannot be written; the source must stay uncommitted.
        """
        self.on_letter(error.code)
        letter = dead_letter(source, error.info(), request_id=request_id, at=self.clock())
        try:
            return await self.publisher.publish(self.topic, letter, key=source.key)
        except BrokerError as refusal:
            if refusal.code != "too_large":
                raise
            bare = _without_bytes(letter, source)
            return await self.publisher.publish(self.topic, bare, key=None)


def dead_letter(
    source: RawRecord, error: ErrorInfo, *, request_id: str | None, at: datetime
) -> DeadLetter:
    """Wrap a record."""
    return DeadLetter(
        topic=source.topic,
        partition=source.partition,
        offset=source.offset,
        timestamp=source.timestamp if source.timed else None,
        key=None if source.key is None else _blob(source.key),
        value=None if source.value is None else _blob(source.value),
        headers=tuple(_header(name, value) for name, value in source.headers),
        request_id=request_id,
        error=error,
        dead_at=at,
    )


def _header(name: str, value: bytes | None) -> SourceHeader:
    exact = name.raw if isinstance(name, HeaderName) else None
    return SourceHeader(
        name=str(name),
        value=None if value is None else _blob(value),
        name_base64=None if exact is None else base64.b64encode(exact).decode("ascii"),
    )


def _blob(raw: bytes) -> Blob:
    """Text where it can be read, but base64 where escaping would make text the longer one."""
    blob = Blob.of(raw)
    base64_length = len(raw) * 4 // 3
    if blob.encoding == "base64" or len(orjson.dumps(blob.content)) <= base64_length + _SLACK:
        return blob
    return Blob(encoding="base64", content=base64.b64encode(raw).decode("ascii"))


def _without_bytes(letter: DeadLetter, source: RawRecord) -> DeadLetter:
    size = len(source.value or b"")
    note = f"its {size} bytes are too many for a dead letter and stay only where they lie"
    error = letter.error.model_copy(update={"message": f"{letter.error.message}; {note}"})
    return letter.model_copy(update={"key": None, "value": None, "headers": (), "error": error})
