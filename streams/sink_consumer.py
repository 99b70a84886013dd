"""Bringing what the topics hold into the store: batched, acknowledged after the insert."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from millrace.schemas.budget import BudgetAlert, BudgetClaim, BudgetRelease, BudgetSettlement
from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.errors import (
    InvalidEventError,
    PipelineError,
    RowRejectedError,
    SinkUnavailableError,
)
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.record import SCHEMA_HEADER
from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.sinks.protocol import ReceivedRequest, RowsRejectedError, Sink, SinkRecord
from millrace.streams import crash_points
from millrace.streams.crash_points import CrashPoint
from millrace.streams.dead_letters import RawRecord, SetAside
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.progress import LOST_MEMBERSHIP, unread
from millrace.streams.publisher import translate
from millrace.streams.raw_records import raw_record
from millrace.streams.routing_key import origin_of
from millrace.streams.topics import TopicNames

log = structlog.get_logger(__name__)

_POLL_MS = 200
_DEFAULT_RETRY_SECONDS = 2.0
_BUDGETS = frozenset(
    record.schema_name.encode()
    for record in (BudgetClaim, BudgetSettlement, BudgetRelease, BudgetAlert)
)


@dataclass(frozen=True, slots=True)
class _Waiting:
    source: RawRecord
    record: SinkRecord


class SinkConsumer:
    """Stores requests, ledger events, terminal records, evaluations and dead letters.

    Offsets are committed once the sink holds every row read up to them. While the sink cannot take
    rows, nothing more is read: what waits stays on the topics. Repeated records make the same
    rows. A row that the sink will never take becomes a dead letter, as does what is no record of
    its topic; their neighbours are stored.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        kafka: KafkaSettings,
        topics: TopicNames,
        group: str,
        batch_rows: int,
        batch_seconds: float,
        set_aside: SetAside,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._topics = topics
        self._batch_rows = batch_rows
        self._batch_seconds = batch_seconds
        self._set_aside = set_aside
        self._monotonic = monotonic
        self._batch: list[_Waiting] = []
        self._bad: list[tuple[RawRecord, PipelineError]] = []
        self._since = 0.0
        self._positions: dict[TopicPartition, int] = {}
        self._stopping = asyncio.Event()
        self.stored = 0
        """Records written."""
        self.batches = 0
        self.ready = asyncio.Event()
        self._decoders: dict[str, Callable[[RawRecord], SinkRecord]] = {
            topics.requests: _request,
            topics.usage: lambda raw: UsageEvent.decode(raw.value or b"", raw.headers),
            topics.responses: lambda raw: Response.decode(raw.value or b"", raw.headers),
            topics.evaluations: lambda raw: Response.decode(raw.value or b"", raw.headers),
            topics.dead_letters: lambda raw: DeadLetter.decode(raw.value or b"", raw.headers),
        }
        self._consumer = AIOKafkaConsumer(
            **kafka.consumer_kwargs(), group_id=group, auto_offset_reset="earliest"
        )

    def stop(self) -> None:
        """Store what has been read, commit, and let `run` return."""
        self._stopping.set()

    @property
    def oldest(self) -> datetime | None:
        """The time stamp of the oldest record that was read and is not stored; None without."""
        return min((each.source.timestamp for each in self._batch), default=None)

    async def lag(self) -> int:
        """How many records of the assigned partitions have not been read."""
        return await unread(self._consumer)

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            BrokerError: Kafka cannot be reached, or a dead letter cannot be written.
            ConfigurationError: The store cannot be used as it is configured.
        """
        consumer = self._consumer
        try:
            await self._open()
            await consumer.start()
            consumer.subscribe(list(self._decoders))
            self.ready.set()
            while not self._stopping.is_set():
                await self._poll()
            if self._positions:
                await self._store()
        except KafkaError as error:
            raise translate(error, "read the topics to be stored") from error
        finally:
            await consumer.stop()

    async def _open(self) -> None:
        while True:
            try:
                await self._sink.open()
            except SinkUnavailableError as error:
                log.warning("sink.unavailable", error=error.message)
                if await self._stopped_within(error.retry_after or _DEFAULT_RETRY_SECONDS):
                    return
            else:
                return

    async def _poll(self) -> None:
        room = self._batch_rows - len(self._batch)
        batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=max(1, room))
        self._take_all(batches)
        full = len(self._batch) >= self._batch_rows
        due = self._positions and self._monotonic() - self._since >= self._batch_seconds
        if full or due:
            await self._store()

    def _take_all(self, batches: Mapping[TopicPartition, Sequence[Any]]) -> None:
        for partition, records in batches.items():
            for record in records:
                self._take(raw_record(record))
            self._positions[partition] = records[-1].offset + 1

    def _take(self, source: RawRecord) -> None:
        if not self._positions:
            self._since = self._monotonic()
        if source.topic == self._topics.usage and _is_about_budgets(source):
            return
        try:
            record = self._decoders[source.topic](source)
        except InvalidEventError as error:
            # Bad requests are the router's to set aside, and dead letters are there already.
            if source.topic not in {self._topics.requests, self._topics.dead_letters}:
                problem = PipelineError(error.message, code="internal_record_invalid")
                self._bad.append((source, problem))
            log.debug("sink.skipped", topic=source.topic, offset=source.offset, error=error.message)
            return
        self._batch.append(_Waiting(source, record))

    async def _store(self) -> None:
        """Write the batch, however long the sink takes to take it, and commit."""
        while self._batch:
            try:
                await self._sink.write([each.record for each in self._batch])
            except RowsRejectedError as error:
                await self._reject(error)
                break
            except SinkUnavailableError as error:
                log.warning("sink.unavailable", error=error.message, waiting=len(self._batch))
                wait = error.retry_after or _DEFAULT_RETRY_SECONDS
                if await self._stopped_within(wait):
                    # Left uncommitted: the next process reads and stores them.
                    return
                await self._stay_a_member()
            else:
                break
        if crash_points.armed:
            crash_points.reach(CrashPoint.ROWS_INSERTED)
        bad, self._bad = self._bad, []
        for delivery in [await self._set_aside(source, problem) for source, problem in bad]:
            await delivery
        self.stored += len(self._batch)
        self.batches += bool(self._batch)
        self._batch = []
        positions, self._positions = self._positions, {}
        await self._commit(positions)

    async def _reject(self, rejections: RowsRejectedError) -> None:
        for row in rejections.rejected:
            source = self._batch[row.position].source
            log.error("sink.row_rejected", row=row.row_id, reason=row.reason, topic=source.topic)
            # A dead letter whose row is refused is on its topic already.
            if source.topic != self._topics.dead_letters:
                problem = RowRejectedError(f"row {row.row_id!r} was refused: {row.reason}")
                await (await self._set_aside(source, problem))

    async def _commit(self, positions: dict[TopicPartition, int]) -> None:
        held = {tp: at for tp, at in positions.items() if tp in self._consumer.assignment()}
        if not held:
            return
        try:
            await self._consumer.commit(held)
        except LOST_MEMBERSHIP as error:
            log.info("commit.skipped", group="sink", reason=type(error).__name__)

    async def _stay_a_member(self) -> None:
        """Tell the group that this member is alive, without reading on."""
        held = self._consumer.assignment()
        if held:
            self._consumer.pause(*held)
            # Partitions that a rebalance brings at this moment may answer: what is read is kept.
            self._take_all(await self._consumer.getmany(timeout_ms=0, max_records=1))
            paused = self._consumer.paused()
            if paused:
                self._consumer.resume(*paused)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), timeout=seconds)
        except TimeoutError:
            return False
        return True


def _is_about_budgets(raw: RawRecord) -> bool:
    """Whether it is one of the records about budgets, which lie on the topic of the ledger."""
    return any(value in _BUDGETS for header, value in raw.headers if header == SCHEMA_HEADER)


def _request(raw: RawRecord) -> ReceivedRequest:
    origin = origin_of(raw)
    request = Request.decode(raw.value or b"", raw.headers)
    return ReceivedRequest(
        request=request,
        request_id=request.request_id or origin.request_id(),
        accepted_at=origin.timestamp,
        topic=origin.topic,
        partition=origin.partition,
        offset=origin.offset,
        size_bytes=len(raw.value or b""),
    )
