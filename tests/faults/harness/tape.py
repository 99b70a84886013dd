"""Every record of a pipeline's topics, as bytes and as JSON, read by a consumer of the harness.

Nothing here knows the pipeline's classes: what they could get wrong must show.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from observing import Observing

QUIET_SECONDS = 60.0
"""So long nothing at all is written: then what is waited for does not come."""

_LOOK_MS = 100


class Entry(NamedTuple):
    """A record as it lies on its topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    schema: str
    value: bytes
    body: dict[str, Any]
    """Empty where it is no JSON object."""


class Tape:
    """Reads topics from their beginning, without a group, until the block ends."""

    def __init__(self, *, bootstrap_servers: str, prefix: str, names: Iterable[str]) -> None:
        self._servers = bootstrap_servers
        self._prefix = prefix
        self._topics = [f"{prefix}{name}" for name in names]
        self._consumer: Any = None
        self._reading = Observing(self._read)
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        """By topic without prefix."""
        self.ends: dict[str, list[dict[str, Any]]] = defaultdict(list)
        """Terminal records by request id."""
        self.ended_at_ms: dict[str, int] = {}
        self._progress: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            *self._topics,
            bootstrap_servers=self._servers,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
            metadata_max_age_ms=2_000,
        )
        await self._consumer.start()
        await self._reading.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._reading.__aexit__(kind, error, trace)
        await self._consumer.stop()

    async def until(
        self, condition: Callable[[], Any], what: str, *, quiet_seconds: float = QUIET_SECONDS
    ) -> None:
        """Wait for records that make something hold, as long as any come.

        Raises:
            AssertionError: It does not hold, and nothing comes any more.
        """
        try:
            await self._reading.until(condition, seconds=quiet_seconds, patient=True)
        except TimeoutError:
            raise AssertionError(f"nothing came for {quiet_seconds:g} s, wanting {what}") from None

    async def caught_up(self) -> None:
        """Return once everything has been read that lay there at the time of calling."""
        partitions = self._consumer.assignment()
        ends = await self._consumer.end_offsets(list(partitions))

        def over() -> bool:
            return all(self._progress.get(each, 0) >= end for each, end in ends.items())

        await self.until(over, "the tape to catch up")

    async def _read(self) -> bool:
        batches = await self._consumer.getmany(timeout_ms=_LOOK_MS)
        for partition, records in batches.items():
            # When partitions are added, the consumer begins all of them again.
            read = self._progress.get(partition, 0)
            for record in records:
                if record.offset >= read:
                    self._keep(record)
            self._progress[partition] = max(read, records[-1].offset + 1)
        return bool(batches)

    def _keep(self, record: Any) -> None:
        topic = record.topic.removeprefix(self._prefix)
        try:
            body = json.loads(record.value) if record.value else {}
        except (ValueError, RecursionError):
            body = {}
        schema = dict(record.headers).get("schema", b"").decode()
        entry = Entry(
            topic,
            record.partition,
            record.offset,
            record.timestamp,
            schema,
            record.value or b"",
            body if isinstance(body, dict) else {},
        )
        self.entries[topic].append(entry)
        if topic == "responses":
            request_id = entry.body["request_id"]
            self.ends[request_id].append(entry.body)
            self.ended_at_ms.setdefault(request_id, record.timestamp)
