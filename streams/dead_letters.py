"""Setting a record aside whole, with where it came from and what was wrong with it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from millrace.schemas.dead_letter import Blob, DeadLetter, SourceHeader
from millrace.schemas.errors import ErrorInfo, PipelineError
from millrace.schemas.record import Headers
from millrace.streams.publisher import Publisher

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it lies on a topic."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class SetAside(Protocol):
    """Whoever keeps what could not be processed."""

    async def __call__(
        self, source: RawRecord, error: PipelineError, *, request_id: str | None = None
    ) -> "asyncio.Future[Any]":
        """Keep the record; the future ends with the dead letter's delivery."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Writes to the dead-letter topic."""

    publisher: Publisher
    topic: str
    clock: Clock = utc_now

    async def __call__(
        self, source: RawRecord, error: PipelineError, *, request_id: str | None = None
    ) -> "asyncio.Future[Any]":
        """Write the record, byte for byte, under its own key.

        Raises:
            BrokerError: The dead letter cannot be written; the source must stay uncommitted.
        """
        letter = dead_letter(source, error.info(), request_id=request_id, at=self.clock())
        return await self.publisher.publish(self.topic, letter, key=source.key)


def dead_letter(
    source: RawRecord, error: ErrorInfo, *, request_id: str | None, at: datetime
) -> DeadLetter:
    """Wrap a record."""
    return DeadLetter(
        topic=source.topic,
        partition=source.partition,
        offset=source.offset,
        timestamp=source.timestamp,
        key=None if source.key is None else Blob.of(source.key),
        value=None if source.value is None else Blob.of(source.value),
        headers=tuple(
            SourceHeader(name=name, value=Blob.of(value)) for name, value in source.headers
        ),
        request_id=request_id,
        error=error,
        dead_at=at,
    )
