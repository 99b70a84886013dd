"""What the topics say became of the demo's lines."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from millrace.schemas.chunk import Chunk
from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.response import Response
from millrace.streams.cli.demo_lines import SentLine
from millrace.streams.cli.topic_reader import TopicReader
from millrace.streams.dead_letters import RawRecord
from millrace.streams.topics import TopicNames

Place = tuple[str, int, int]


class Recording:
    """Keeps every chunk, terminal record and dead letter, in the order of their topics."""

    def __init__(
        self,
        *,
        names: TopicNames,
        on_chunk: Callable[[Chunk], None] = lambda _: None,
        on_response: Callable[[Response], None] = lambda _: None,
    ) -> None:
        self.responses: dict[str, list[Response]] = defaultdict(list)
        """By request; more than one would be a fault."""
        self.dead_letters: dict[Place, DeadLetter] = {}
        """By the place of the record that was set aside."""
        self.chunks: dict[str, list[Chunk]] = defaultdict(list)
        """By request."""
        self._names = names
        self._on_chunk = on_chunk
        self._on_response = on_response

    async def gather(
        self, reader: TopicReader, lines: Sequence[SentLine], *, timeout_seconds: float
    ) -> None:
        """Read until each line has come to what is meant for it, or time is up."""
        waiting = list(lines)
        try:
            async with asyncio.timeout(timeout_seconds):
                async for record in reader.records():
                    self._keep(record)
                    waiting = [line for line in waiting if not self.settled(line)]
                    if not waiting:
                        return
        except TimeoutError:
            return

    async def catch_up(self, reader: TopicReader) -> None:
        """Read what else is there now."""
        async for record in reader.records(await reader.ends()):
            self._keep(record)

    def settled(self, line: SentLine) -> bool:
        """Whether the line has everything that it is meant to get."""
        if line.line.ends and line.request_id not in self.responses:
            return False
        return not line.line.dead or line.sent.place in self.dead_letters

    def _keep(self, record: RawRecord) -> None:
        value = record.value or b""
        if record.topic == self._names.chunks:
            chunk = Chunk.decode(value, record.headers)
            self.chunks[chunk.request_id].append(chunk)
            self._on_chunk(chunk)
        elif record.topic == self._names.responses:
            response = Response.decode(value, record.headers)
            self.responses[response.request_id].append(response)
            self._on_response(response)
        else:
            letter = DeadLetter.decode(value, record.headers)
            self.dead_letters[(letter.topic, letter.partition, letter.offset)] = letter
