"""Reading topics without a consumer group: from anywhere, to now or for ever."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from millrace.streams.cli.broker import require_topics, servers
from millrace.streams.cli.moments import Start
from millrace.streams.dead_letters import RawRecord
from millrace.streams.header_names import read_any_header_name
from millrace.streams.kafka_errors import kafka_errors
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.raw_records import raw_record

GONE_SECONDS = 20.0
"""How long the broker may be away before reading fails."""
_ASK_SECONDS = 3.0
_POLL_MS = 200

Ends = Mapping[TopicPartition, int]
"""For each partition, the offset after the last record to read."""


class TopicReader:
    """Reads every partition of some topics; an async context manager.

    No offset is committed and no group joined, so nobody else notices. Entering places the
    reader at `start`: what is produced after that is read, if `start` is the end.
    """

    def __init__(self, *, kafka: KafkaSettings, topics: Sequence[str], start: Start) -> None:
        self._kafka = kafka
        self._topics = tuple(topics)
        self._start = start
        self._not_before: datetime | None = None
        self._consumer: Any = None
        self._heard_at = self._ask_at = 0.0

    async def __aenter__(self) -> Self:
        await require_topics(self._kafka, *self._topics)
        read_any_header_name()
        self._consumer = AIOKafkaConsumer(
            *self._topics,
            **self._kafka.consumer_kwargs(),
            group_id=None,
            auto_offset_reset="earliest",
        )
        try:
            with self._errors():
                await self._consumer.start()
                self._heard_at = asyncio.get_running_loop().time()
                self._ask_at = self._heard_at + _ASK_SECONDS
                for partition, offset in (await self._positions(self._start)).items():
                    self._consumer.seek(partition, offset)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        try:
            await self._consumer.stop()
        except asyncio.CancelledError:
            # aiokafka lets its own fetch's cancellation out while the broker is away.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    async def ends(self, before: datetime | None = None) -> Ends:
        """Where the topics end now, or where their records from `before` on begin.

        Where the broker has no index of times, the present end stands in.
        """
        with self._errors():
            if before is not None and await self._has_time_index():
                return await self._offsets_at(before)
            return await self._ends()

    async def records(self, ends: Ends | None = None) -> AsyncIterator[RawRecord]:
        """Yield records as they come, up to `ends`, or for ever without.

        Records of one partition come in their order; those of one fetch are ordered by time.
        After a reading up to `ends` the reader is done.
        """
        while ends is None or await self._short_of(ends):
            with self._errors():
                batches = await self._consumer.getmany(timeout_ms=_POLL_MS)
                if not batches:
                    await self._require_broker()
            batch = [
                record
                for partition, records in batches.items()
                for record in records
                if ends is None or record.offset < ends.get(partition, 0)
            ]
            batch.sort(key=lambda record: (record.timestamp, record.offset))
            for record in batch:
                raw = raw_record(record)
                if self._not_before is None or raw.timestamp >= self._not_before:
                    yield raw

    async def _require_broker(self) -> None:
        """Ask now and then whether the broker is there; the consumer would wait for ever."""
        now = asyncio.get_running_loop().time()
        if now < self._ask_at:
            return
        try:
            await self._consumer.topics()
            self._heard_at = now
        except KafkaError:
            if now - self._heard_at > GONE_SECONDS:
                raise
        self._ask_at = now + _ASK_SECONDS

    async def _short_of(self, ends: Ends) -> bool:
        open_ones = False
        for partition, end in ends.items():
            if await self._consumer.position(partition) < end:
                open_ones = True
            else:
                self._consumer.pause(partition)
        return open_ones

    def _errors(self) -> AbstractContextManager[None]:
        return kafka_errors(f"read from {servers(self._kafka)}")

    async def _ends(self) -> dict[Any, int]:
        found: dict[Any, int] = await self._consumer.end_offsets(self._partitions())
        return found

    def _partitions(self) -> list[TopicPartition]:
        return sorted(self._consumer.assignment())

    async def _positions(self, start: Start) -> Ends:
        partitions = self._partitions()
        first: dict[Any, int] = await self._consumer.beginning_offsets(partitions)
        last = await self._ends()
        match start.at:
            case "beginning":
                return first
            case "end":
                return last
            case int(offset):
                return {p: min(max(offset, first[p]), last[p]) for p in partitions}
            case datetime() as moment:
                self._not_before = moment
                return await self._offsets_at(moment) if await self._has_time_index() else first

    async def _offsets_at(self, moment: datetime) -> Ends:
        partitions = self._partitions()
        last = await self._ends()
        milliseconds = int(moment.timestamp() * 1000)
        found = await self._consumer.offsets_for_times(dict.fromkeys(partitions, milliseconds))
        return {p: found[p].offset if found.get(p) else last[p] for p in partitions}

    async def _has_time_index(self) -> bool:
        """Whether the broker finds the records since 1970, which are all it has."""
        partitions = self._partitions()
        first = await self._consumer.beginning_offsets(partitions)
        last = await self._ends()
        holding = [p for p in partitions if last[p] > first[p]]
        if not holding:
            return True
        found = await self._consumer.offsets_for_times(dict.fromkeys(holding, 0))
        return all(found.get(p) for p in holding)
