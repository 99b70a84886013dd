"""Reading a whole topic, in every process that asks: no group shares it out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from millrace.streams.dead_letters import RawRecord
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.publisher import translate
from millrace.streams.raw_records import raw_record

_POLL_MS = 200

Take = Callable[[RawRecord, bool], Awaitable[None]]
"""Given each record, in its partition's order, and whether it was written after the start."""


class WholeTopic:
    """Reads every partition of a topic from its beginning on, also those that are added later."""

    def __init__(
        self,
        *,
        topic: str,
        kafka: KafkaSettings,
        new_consumer: Callable[..., Any] = AIOKafkaConsumer,
    ) -> None:
        self._topic = topic
        self._consumer = new_consumer(
            topic, **kafka.consumer_kwargs(), auto_offset_reset="earliest"
        )
        self.caught_up = asyncio.Event()
        """Set once everything written before the start has been read."""

    async def run(self, take: Take) -> None:
        """Read until cancelled.

        Raises:
            BrokerError: The topic cannot be read.
        """
        try:
            await self._consumer.start()
            await self._read(take)
        except KafkaError as error:
            raise translate(error, f"read {self._topic!r}") from error
        finally:
            await self._consumer.stop()

    async def _read(self, take: Take) -> None:
        consumer = self._consumer
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)
        while True:
            if not self.caught_up.is_set():
                behind = [tp for tp in partitions if await consumer.position(tp) < ends[tp]]
                if not behind:
                    self.caught_up.set()
            batches = await consumer.getmany(timeout_ms=_POLL_MS)
            for partition, records in batches.items():
                end = ends.get(partition, 0)
                for record in records:
                    await take(raw_record(record), record.offset >= end)
