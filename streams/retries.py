"""Sending calls on once their time has come.

What waits lies on the topic: a process holds a bounded part of it in memory, and commits a record
only when its call has gone on. So a restart loses nothing. What went on behind one that waits is
noted in the commit; still a call may be sent twice, which callers and joins know to be the same
attempt.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from millrace.schemas.call import Call
from millrace.schemas.errors import InvalidEventError, PipelineError
from millrace.schemas.record import TRACE_HEADER
from millrace.schemas.retry import Retry
from millrace.streams import crash_points
from millrace.streams.cancellations import Cancellations
from millrace.streams.crash_points import CrashPoint
from millrace.streams.dead_letters import Clock, RawRecord, SetAside
from millrace.streams.deliveries import Delivery, ended
from millrace.streams.holding import Holding
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.offsets import OffsetTracker, Partition
from millrace.streams.progress import ResumeFromCommits, commit_progress, resume_from_commits
from millrace.streams.publisher import Publisher, translate
from millrace.streams.raw_records import raw_record
from millrace.streams.rebalance import Rebalance
from millrace.streams.retry_heap import RetryHeap, WaitingCall
from millrace.streams.retry_settings import RetrySettings

log = structlog.get_logger(__name__)

_RESUME_AT = 0.9
"""The part of what may wait at which reading goes on, so that it does not stop and go."""


class Retries:
    """Reads the retries topic, in a group of its own.

    - Calls go on in the order of their times, under the key that they came with. One whose
      request's deadline is sooner than its time goes on at the deadline, and one that is cancelled
      goes on at once, for its caller to end.
    - Offsets are committed only up to the first call that still waits, and only once the broker
      holds what went on.
    - A call that this process has sent on is not sent again when its record is read again, nor one
      that another had sent on by its last commit.
    - None is sent on by a process that the group may have let go without its knowledge: whoever
      has its partitions by then sends the same.
    - With too many waiting, the partitions are paused.
    """

    def __init__(
        self,
        *,
        topic: str,
        group: str,
        calls_topic: Callable[[str], str],
        kafka: KafkaSettings,
        settings: RetrySettings,
        publisher: Publisher,
        set_aside: SetAside,
        cancellations: Cancellations,
        clock: Clock,
        new_consumer: Callable[..., Any] = AIOKafkaConsumer,
        resume: ResumeFromCommits = resume_from_commits,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topic = topic
        self._calls_topic = calls_topic
        self._settings = settings
        self._publisher = publisher
        self._set_aside = set_aside
        self._cancellations = cancellations
        self._hastened = 0
        self._clock = clock
        self._heap = RetryHeap()
        self._tracker = OffsetTracker()
        self._holding = Holding(
            learn=partial(resume, kafka, self._tracker, group),
            session_seconds=kafka.session_timeout_seconds,
            now=monotonic,
        )
        self._deliveries: dict[Delivery, tuple[Partition, int, str | None]] = {}
        self._sent: OrderedDict[str, None] = OrderedDict()
        self._paused = False
        self._failure: BaseException | None = None
        self._stopping = False
        self.ready = asyncio.Event()
        """Set once partitions are assigned, or the group has decided that there are none."""
        self._consumer = new_consumer(
            **kafka.consumer_kwargs(), group_id=group, auto_offset_reset="earliest"
        )

    @property
    def waiting(self) -> int:
        """How many calls are held in memory."""
        return len(self._heap)

    def stop(self) -> None:
        """Let `run` return; what waits stays on the topic."""
        self._stopping = True

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            BrokerError: Kafka cannot be reached, or a record cannot be written.
        """
        consumer = self._consumer
        try:
            await consumer.start()
            self._holding.follow(consumer)
            moving = Rebalance(give_up=self._give_up, take_over=self._take_over)
            consumer.subscribe([self._topic], listener=moving)
            committer = asyncio.create_task(self._commit_regularly())
            try:
                while not self._stopping:
                    if committer.done():
                        committer.result()
                    await self._turn()
                await self._settle_deliveries()
            finally:
                committer.cancel()
            await self._commit()
            self._raise_failure()
        except KafkaError as error:
            raise translate(error, f"read {self._topic!r}") from error
        finally:
            await consumer.stop()

    async def _turn(self) -> None:
        """Send on what is due, then read until the next one is."""
        self._raise_failure()
        self._hasten_cancelled()
        await self._send_due()
        self._hold_back()
        settings = self._settings
        batches = await self._consumer.getmany(
            timeout_ms=math.ceil(self._pause_seconds() * 1000),
            max_records=max(1, settings.max_waiting - len(self._heap)),
        )
        if any(batches.values()) and not await self._holding.learned():
            return
        assignment = self._holding.assignment
        for at, records in batches.items():
            for record in records:
                # What comes while partitions change hands is read again from the last commit;
                # to begin in its middle would let a commit pass what came before.
                if assignment == self._holding.assignment and Partition(*at) in self._holding:
                    await self._take(raw_record(record))

    def _hasten_cancelled(self) -> None:
        if self._hastened != self._cancellations.revision:
            self._hastened = self._cancellations.revision
            self._heap.hasten(self._cancelled)

    def _cancelled(self, waiting: WaitingCall) -> bool:
        return self._cancellations.covers(waiting.request_id, waiting.member)

    def _pause_seconds(self) -> float:
        poll, due = self._settings.poll_seconds, self._heap.next_due
        if due is None or not self._holding.leased:
            return poll
        return min(poll, max(0.0, due - self._clock().timestamp()))

    def _hold_back(self) -> None:
        """Pause what is assigned while too many wait; resume when a tenth of them has gone on."""
        settings, heap = self._settings, self._heap
        part = max(len(heap) / settings.max_waiting, heap.size_bytes / settings.max_waiting_bytes)
        assigned = self._consumer.assignment()
        if part >= 1:
            # Anew each time: partitions that came in a rebalance are not paused yet.
            self._consumer.pause(*assigned)
            self._paused = True
        elif self._paused and part <= _RESUME_AT:
            self._consumer.resume(*assigned)
            self._paused = False

    async def _take(self, source: RawRecord) -> None:
        partition = Partition(source.topic, source.partition)
        try:
            self._tracker.start(partition, source.offset)
        except ValueError:
            # The topic was made anew, or its log cut: offsets begin again.
            log.warning("offsets.went_back", partition=partition, offset=source.offset)
            self._heap.drop({partition})
            self._tracker.forget(partition)
            self._tracker.start(partition, source.offset)
        if self._tracker.was_finished(partition, source.offset):
            # Whoever held the partition before had sent it on behind one that waits.
            self._tracker.finish(partition, source.offset)
            return
        try:
            retry = Retry.decode(source.value or b"", source.headers)
        except InvalidEventError as error:
            problem = PipelineError(error.message, code="internal_record_invalid")
            self._expect(await self._set_aside(source, problem), partition, source.offset)
            return
        call = retry.call
        identity = f"{call.attempt_id} {retry.not_before.isoformat()}"
        if identity in self._sent:
            self._tracker.finish(partition, source.offset)
            return
        topic = self._calls_topic(call.target.provider)
        try:
            await self._publisher.require_topic(topic)
        except PipelineError as problem:
            self._expect(await self._set_aside(source, problem), partition, source.offset)
            return
        due = min(retry.not_before, call.job.deadline)
        if self._cancellations.covers(call.job.request_id, call.member):
            due = self._clock()
        self._heap.push(
            WaitingCall(
                due=due.timestamp(),
                identity=identity,
                request_id=call.job.request_id,
                member=call.member,
                partition=partition,
                offset=source.offset,
                topic=topic,
                key=source.key,
                # The bytes alone: a call as an object takes many times as much memory.
                value=call.encode(),
                headers=(
                    *Call.kafka_headers(),
                    *((name, it) for name, it in source.headers if name == TRACE_HEADER and it),
                ),
            )
        )

    async def _send_due(self) -> None:
        now = self._clock().timestamp()
        while self._holding.leased and (waiting := self._heap.pop_due(now)) is not None:
            delivery = await self._publisher.publish_bytes(
                waiting.topic, waiting.value, key=waiting.key, headers=waiting.headers
            )
            self._expect(delivery, waiting.partition, waiting.offset, waiting.identity)

    def _expect(
        self,
        delivery: Delivery,
        partition: Partition,
        offset: int,
        identity: str | None = None,
    ) -> None:
        """Finish a record once the broker holds what was made from it."""
        self._deliveries[delivery] = (partition, offset, identity)
        delivery.add_done_callback(self._delivered)

    def _delivered(self, delivery: Delivery) -> None:
        partition, offset, identity = self._deliveries.pop(delivery)
        if delivery.cancelled():
            return
        if (error := delivery.exception()) is not None:
            self._failure = self._failure or error
            return
        if crash_points.armed and identity is not None:
            crash_points.reach(CrashPoint.RETRY_SENT_ON)
        self._tracker.finish(partition, offset)
        if identity is not None:
            self._sent[identity] = None
            if len(self._sent) > self._settings.remembered_calls:
                self._sent.popitem(last=False)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise translate(self._failure, "send calls on")

    async def _settle_deliveries(self) -> None:
        for delivery in list(self._deliveries):
            await ended(delivery)

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._settings.commit_interval_seconds)
            await self._commit()

    async def _commit(self) -> None:
        await commit_progress(self._consumer, self._tracker, topic=self._topic)

    async def _give_up(self, partitions: set[Partition]) -> None:
        """Leave what waits to the next owner, which reads it again from the last commit."""
        self._holding.give_up(partitions)
        self._heap.drop(partitions)
        await self._settle_deliveries()
        await self._commit()
        for partition in partitions:
            self._tracker.forget(partition)

    async def _take_over(self, partitions: set[Partition]) -> None:
        self._holding.take_over(partitions)
        self.ready.set()
