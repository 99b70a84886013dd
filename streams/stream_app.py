"""A Faust app in the only form in which we trust it.

One record at a time, in order, per process; acknowledged in order by `OrderedAcks`; states in
memory with a changelog; no topics declared by Faust, no web server, no leader topic.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faust
import structlog
from faust.types import EventT

from millrace.schemas.errors import PipelineError
from millrace.schemas.record import Headers
from millrace.streams.batching_consumer import consume_in_runs
from millrace.streams.dead_letters import RawRecord, SetAside
from millrace.streams.deliveries import Delivery
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.ordered_acks import OrderedAcks, Processed, StateWrite
from millrace.streams.publisher import Publisher
from millrace.streams.raw_records import raw_record
from millrace.streams.state_table import StateTable

log = structlog.get_logger(__name__)

_ABANDON_SECONDS = 10.0

UNDER_WAY = 2_000
"""Records processed but not yet acknowledged, at most."""

_RUNS_BUFFERED = 100
"""Fetched and not yet processed, at most; a run is up to `LONGEST_RUN` records."""

_RECORDS_A_TURN = 40
"""Of however many runs, before others on the event loop have their turn: about 3 ms. Shorter turns
cost more CPU, as each finds the processor's caches filled by others."""


class Outputs:
    """What one record gives rise to; filled by a processor, kept until acknowledged.

    Its lists may hold what earlier records have given rise to.
    """

    __slots__ = ("deliveries", "duplicates", "states", "trace")

    def __init__(
        self,
        deliveries: list[Delivery] | None = None,
        states: list[StateWrite] | None = None,
    ) -> None:
        self.deliveries = [] if deliveries is None else deliveries
        self.states = [] if states is None else states
        self.duplicates = 0
        self.trace: Headers = ()
        """Headers that go on with everything made from the record."""


Process = Callable[[RawRecord, Outputs], Awaitable[None]]
"""Decides what follows from a record, hands it to the publisher, and notes the deliveries."""


class StreamApp:
    """Runs one processor over one topic.

    A record that the processor refuses (`PipelineError`, or a fault of ours) becomes a dead letter;
    records before and after it do not notice. A broker failure stops the app instead: the record
    stays uncommitted.
    """

    def __init__(
        self,
        *,
        app_id: str,
        topic: str,
        partitions: int,
        kafka: KafkaSettings,
        table_publisher: Publisher,
        set_aside: SetAside,
        on_failure: Callable[[PipelineError], None],
        folder: Path,
    ) -> None:
        self.topic = topic
        self.processed = 0
        self.duplicates = 0
        self._in_turn = 0
        self._positions: dict[int, int] = {}
        self._table_publisher = table_publisher
        self._set_aside = set_aside
        self._on_failure = on_failure
        self.partitions = partitions
        self._acks = OrderedAcks(limit=UNDER_WAY, on_failure=on_failure)
        self._acking: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()
        # Faust wants a folder, though tables in memory keep nothing there.
        datadir = folder / "faust" / app_id
        datadir.mkdir(parents=True, exist_ok=True)
        self.app = faust.App(
            app_id,
            **kafka.faust_broker_settings(),
            store="memory://",
            datadir=str(datadir),
            topic_allow_declare=False,
            topic_disable_leader=True,
            topic_partitions=partitions,
            consumer_auto_offset_reset="earliest",
            broker_commit_interval=0.5,
            broker_commit_every=5_000,
            web_enabled=False,
            autodiscover=False,
            loghandlers=[],
            stream_recovery_delay=0.0,
            stream_buffer_maxsize=_RUNS_BUFFERED,
            table_standby_replicas=0,
        )
        consume_in_runs(self.app, isolation_level=kafka.isolation_level)
        # Faust speaks through logging; what it says at level INFO is for its own developers.
        for name in ("faust", "mode"):
            logging.getLogger(name).setLevel(logging.WARNING)

    def table(self, name: str) -> StateTable:
        """A table with as many partitions as the topic has."""
        return StateTable(
            self.app, name, publisher=self._table_publisher, partitions=self.partitions
        )

    def run_processor(
        self, name: str, process: Process, *, on_recovered: Callable[[], None] = lambda: None
    ) -> None:
        """Register the processor; once, before `start`.

        `on_recovered` is called whenever the tables hold the states of the partitions held now,
        before their events come.
        """
        channel = self.app.topic(
            self.topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=self.partitions,
        )

        async def processor(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._process_run(event, process)

        self.app.agent(channel, name=name, concurrency=1)(processor)

        async def assigned(_: Any, partitions: set[Any], **__: Any) -> None:
            self._acks.assign({(each.topic, each.partition) for each in partitions})

        async def complete(*_: Any, **__: Any) -> None:
            on_recovered()
            self.ready.set()

        self.app.on_partitions_assigned.connect(assigned, weak=False)
        self.app.on_rebalance_complete.connect(complete, weak=False)

    async def start(self) -> None:
        """Join the group, recover the tables, begin."""
        self._acking = asyncio.create_task(self._acks.run())
        self._acking.add_done_callback(_observe)
        await self.app.maybe_start()
        # Faust's own statistics, which nobody reads here, cost every event ten calls.
        self.app.sensors.remove(self.app.monitor)

    async def stop(self) -> None:
        """Take no more events, let those taken be acknowledged, commit, leave the group.

        Where the task is cancelled meanwhile, that goes on; `abandon` hastens it.
        """
        if self._stopping is None:
            # Of its own: Faust takes a cancellation for the end of one of its waits, and waits on.
            self._stopping = asyncio.create_task(self.app.stop())
        await asyncio.shield(self._stopping)
        await self._end_acking()

    async def abandon(self) -> None:
        """Leave without waiting for what is under way; does nothing after `stop`.

        What was taken and not acknowledged stays uncommitted. Where the broker does not let it
        commit and leave within 10 s, its group finds out by itself.
        """
        if self._acking is None:
            return
        self.app.consumer.stop_waiting()
        try:
            async with asyncio.timeout(_ABANDON_SECONDS):
                await self.stop()
        except TimeoutError:
            log.warning("stop.incomplete", topic=self.topic, after_seconds=_ABANDON_SECONDS)
            await self._end_acking()

    async def _end_acking(self) -> None:
        if self._acking is not None:
            self._acking.cancel()
            await asyncio.wait((self._acking,))
            self._acking = None

    @property
    def problem(self) -> str | None:
        """Why Faust has stopped of itself, which it tells nobody; None while it works."""
        if not self.app.crashed:
            return None
        return f"the processor of {self.topic} has stopped: {self.app.crash_reason!r}"

    def lag(self) -> int:
        """How many records wait on the partitions held, of which at least one was processed."""
        consumer = self.app.consumer
        return sum(
            max(0, (consumer.highwater(each) or 0) - self._positions[each.partition])
            for each in consumer.assignment()
            if each.topic == self.topic and each.partition in self._positions
        )

    def held_partitions(self) -> set[int]:
        """The partitions of the topic that this process holds."""
        return {
            each.partition for each in self.app.consumer.assignment() if each.topic == self.topic
        }

    async def _process_run(self, event: "EventT[bytes]", process: Process) -> None:
        deliveries: list[Delivery] = []
        states: list[StateWrite] = []
        records = event.message.records
        for record in records:
            source = raw_record(record)
            outputs = Outputs(deliveries, states)
            await self._process(source, outputs, process)
            self._positions[source.partition] = source.offset + 1
            self.duplicates += outputs.duplicates
            self._in_turn += 1
            if self._in_turn >= _RECORDS_A_TURN:
                self._in_turn = 0
                await asyncio.sleep(0)
        self.processed += len(records)
        await self._acks.add(Processed(event, deliveries, states, len(records)))

    async def _process(self, source: RawRecord, outputs: Outputs, process: Process) -> None:
        try:
            await process(source, outputs)
        except PipelineError as error:
            if error.code == "broker_error":
                self._on_failure(error)
                raise
            outputs.deliveries.append(await self._set_aside(source, error))
        except Exception as error:
            log.exception("processor.fault", topic=source.topic, offset=source.offset)
            fault = PipelineError(
                f"a fault in Millrace ({type(error).__name__}); please report it",
                code="internal_error",
            )
            outputs.deliveries.append(await self._set_aside(source, fault))


def _observe(task: "asyncio.Task[None]") -> None:
    """A failure has been reported already; asking for it here keeps the loop from saying so."""
    if not task.cancelled():
        task.exception()
