"""Waiting for the ends of requests that were just sent."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from millrace.schemas.chunk import Chunk
from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.response import Response
from millrace.streams.cli.topic_reader import TopicReader
from millrace.streams.dead_letters import RawRecord
from millrace.streams.topics import TopicNames


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request where it lies."""

    request_id: str
    """Given, or derived from the place."""
    line: int
    topic: str
    partition: int
    offset: int

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition and offset."""
        return (self.topic, self.partition, self.offset)


def followed_topics(names: TopicNames) -> tuple[str, ...]:
    """What a reader must read for `Follower`."""
    return (names.chunks, names.responses, names.dead_letters)


class Follower:
    """Reports chunks and ends of some requests until each has ended.

    A request ends with its terminal record, or with a dead letter where it gets none: its bytes
    were no request, or its id was used before with other content. Records that appear twice are
    reported once; those that cannot be read are not of ours and are passed over.
    """

    def __init__(
        self,
        *,
        names: TopicNames,
        on_chunk: Callable[[Chunk], None],
        on_response: Callable[[Response], None],
        on_dead_letter: Callable[[DeadLetter], None],
    ) -> None:
        self._names = names
        self._on_chunk = on_chunk
        self._on_response = on_response
        self._on_dead_letter = on_dead_letter
        self._ids: set[str] = set()
        self._places: dict[tuple[str, int, int], str] = {}

    async def follow(
        self, reader: TopicReader, sent: Sequence[Sent], *, timeout_seconds: float | None
    ) -> set[str]:
        """Read until all have ended; return the ids of those that had not when time was up.

        The reader must have been placed before the requests were produced.
        """
        self._ids = {request.request_id for request in sent}
        self._places = {request.place: request.request_id for request in sent}
        if not self._ids:
            return set()
        try:
            async with asyncio.timeout(timeout_seconds):
                async for record in reader.records():
                    self._see(record)
                    if not self._ids:
                        break
        except TimeoutError:
            pass
        return self._ids

    def _see(self, record: RawRecord) -> None:
        value = record.value or b""
        try:
            if record.topic == self._names.chunks:
                # Keyed by request: the many tokens of other people's need no reading.
                if record.key is None or record.key.decode() in self._ids:
                    self._see_chunk(Chunk.decode(value, record.headers))
            elif record.topic == self._names.responses:
                self._see_response(Response.decode(value, record.headers))
            else:
                self._see_dead_letter(DeadLetter.decode(value, record.headers))
        except (InvalidEventError, UnicodeDecodeError):
            return

    def _see_chunk(self, chunk: Chunk) -> None:
        if chunk.request_id in self._ids:
            self._on_chunk(chunk)

    def _see_response(self, response: Response) -> None:
        if response.request_id in self._ids:
            self._ids.discard(response.request_id)
            self._on_response(response)

    def _see_dead_letter(self, letter: DeadLetter) -> None:
        request_id = self._places.get((letter.topic, letter.partition, letter.offset))
        if letter.request_id is None and request_id in self._ids:
            self._ids.discard(request_id)
            self._on_dead_letter(letter)
