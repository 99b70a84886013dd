"""Acknowledging events in order, once everything made from them is safe.

Faust 0.15.3 commits past an event that is not acknowledged yet when a later one is (its
`_new_offset` takes the first run of acknowledged offsets for a prefix). Acknowledged strictly in
order of arrival, its commits are right: this queue sees to the order, and pipelines the waiting.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaError
from faust.types import EventT

from millrace.schemas.errors import PipelineError
from millrace.streams import crash_points
from millrace.streams.crash_points import CrashPoint
from millrace.streams.deliveries import Delivery, ended
from millrace.streams.publisher import translate
from millrace.streams.state_table import StateTable


@dataclass(slots=True)
class StateWrite:
    """A state to be written once the outputs of its event are acknowledged."""

    table: StateTable
    key: bytes
    stored: bytes | None


@dataclass(slots=True)
class Processed:
    """What came of an event."""

    event: "EventT[Any]"
    outputs: Sequence[Delivery]
    states: Sequence[StateWrite] = ()
    records: int = 1
    """How many the event stands for."""
    writes: list[Delivery] = field(default_factory=list)


class OrderedAcks:
    """Two queues: outputs acknowledged, then states written and acknowledged, then the event.

    Bounded: `add` waits while `limit` records are under way, which in turn holds the stream back.
    The first failed delivery ends it; from then on no event is acknowledged, so that everything
    from that one on is read again after a restart.
    """

    def __init__(self, *, limit: int, on_failure: Callable[[PipelineError], None]) -> None:
        self._sent: asyncio.Queue[Processed] = asyncio.Queue()
        self._remembered: asyncio.Queue[Processed] = asyncio.Queue()
        self._limit = limit
        self._under_way = 0
        self._room = asyncio.Event()
        self._on_failure = on_failure
        self._owned: set[tuple[str, int]] | None = None

    def assign(self, partitions: set[tuple[str, int]]) -> None:
        """Note which partitions are held: states of others are not for us to write."""
        self._owned = partitions

    async def add(self, processed: Processed) -> None:
        """Take an event that has been processed; its outputs are on their way."""
        while self._under_way >= self._limit:
            self._room.clear()
            await self._room.wait()
        self._under_way += processed.records
        self._sent.put_nowait(processed)

    async def run(self) -> None:
        """Work until cancelled, or until a delivery fails.

        Raises:
            PipelineError: A delivery failed for good.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._remember())
                group.create_task(self._acknowledge())
        except* PipelineError as failures:
            first = failures.exceptions[0]
            if isinstance(first, PipelineError):
                self._on_failure(first)
            raise

    async def _remember(self) -> None:
        while True:
            processed = await self._sent.get()
            await _all(processed.outputs)
            if crash_points.armed:
                crash_points.reach(CrashPoint.OUTPUTS_ACKNOWLEDGED)
            message = processed.event.message
            if self._holds(message.topic, message.partition):
                for state in processed.states:
                    write = await state.table.write(
                        state.key, state.stored, partition=message.partition
                    )
                    processed.writes.append(write)
            self._remembered.put_nowait(processed)

    async def _acknowledge(self) -> None:
        while True:
            processed = await self._remembered.get()
            await _all(processed.writes)
            if crash_points.armed:
                crash_points.reach(CrashPoint.STATE_WRITTEN)
            processed.event.ack()
            self._under_way -= processed.records
            self._room.set()

    def _holds(self, topic: str, partition: int) -> bool:
        return self._owned is None or (topic, partition) in self._owned


async def _all(deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        if not delivery.done():
            await ended(delivery)
        if (error := delivery.exception()) is not None:
            if isinstance(error, KafkaError):
                raise translate(error, "deliver a record") from error
            raise error
