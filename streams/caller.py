"""Reading one provider's calls, keeping many in flight, committing only what is done."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from millrace.providers.running_loop import running_loop
from millrace.schemas.call import Call
from millrace.streams import crash_points
from millrace.streams.admission import Admission, Arrival, Begun
from millrace.streams.alarm import Alarm
from millrace.streams.attempts import Attempts
from millrace.streams.committing import Committing
from millrace.streams.crash_points import CrashPoint
from millrace.streams.dead_letters import SetAside
from millrace.streams.exchange import Exchange
from millrace.streams.holding import Holding
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.offsets import OffsetTracker, Partition
from millrace.streams.places import Place, Places
from millrace.streams.progress import ResumeFromCommits, resume_from_commits, unread
from millrace.streams.publisher import translate
from millrace.streams.raw_records import raw_record
from millrace.streams.rebalance import Rebalance
from millrace.streams.settings import CallerSettings
from millrace.streams.unfinished import Unfinished

log = structlog.get_logger(__name__)

_POLL_MS = 250
_MOST_AT_ONCE = 16
"""Records taken up, and calls begun, in one turn of the event loop: what has been answered
meanwhile waits for its end, and so do the calls that take its place."""
_LOOK_SECONDS = 0.25
"""How often waiting calls are looked through for those that have expired or were cancelled."""


class Caller:
    """Works off `llm.calls.<provider>` with up to `in_flight` calls at once.

    - Offsets are committed only up to the first call that is not done, whatever ends first.
    - When all places are taken the partitions are paused: waiting calls stay on the topic. So
      they do while the provider's rate limit lets none begin, but for those that expire or are
      cancelled meanwhile.
    - Calls begin in the order of `Admission`. What later ones have overtaken holds up the
      offset, not the knowledge of what is done: that is in the commit's metadata.
    - Before partitions are given up in a rebalance, calls in flight get `drain_seconds` to end.
      Those still running then go on if the partition comes back, and are not made a second time;
      otherwise they are broken off, and the partition's new owner makes them again.
    - A call whose attempt this process has made already is not made again, nor one that another
      had ended by its last commit, be it behind a call that had not.
    - No call is begun by a process that the group may have let go without its
      knowledge: whoever has its partitions by then begins the same.
    - After a SIGKILL at most those are made again that were in flight, or ended since the last
      commit (`Committing`).
    """

    def __init__(
        self,
        *,
        provider: str,
        topic: str,
        group: str,
        in_flight: int,
        kafka: KafkaSettings,
        settings: CallerSettings,
        admission: Admission,
        exchange: Exchange,
        attempts: Attempts,
        set_aside: SetAside,
        new_consumer: Callable[..., Any] = AIOKafkaConsumer,
        resume: ResumeFromCommits = resume_from_commits,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.provider = provider
        self._topic = topic
        self._settings = settings
        self._exchange = exchange
        self._set_aside = set_aside
        self._tracker = OffsetTracker()
        self._holding = Holding(
            learn=partial(resume, kafka, self._tracker, group),
            session_seconds=kafka.session_timeout_seconds,
            now=monotonic,
        )
        self._admission = admission
        self._alarm = Alarm(self._look)
        self._beginning = False
        """Whether calls will be begun in the next turn of the event loop."""
        self._unfinished = Unfinished()
        self._tasks: dict[asyncio.Task[None], Begun] = {}
        self._attempts = attempts
        self._read_on = asyncio.Event()
        self._places = Places(
            in_flight,
            now=monotonic,
            may_take=lambda: self._holding.leased,
            on_room=self._begin_soon,
        )
        self._failure: BaseException | None = None
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()
        """Set while partitions are assigned (or the group has decided that there are none)."""
        self._consumer = new_consumer(
            **{
                **kafka.consumer_kwargs(),
                # A rebalance waits for members that drain.
                "max_poll_interval_ms": round(
                    max(kafka.poll_timeout_seconds, 2 * settings.drain_seconds) * 1000
                ),
            },
            group_id=group,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )
        self._commits = Committing(
            consumer=self._consumer,
            tracker=self._tracker,
            topic=topic,
            interval_seconds=settings.commit_interval_seconds,
            after_calls=settings.commit_after_calls,
        )

    @property
    def in_flight(self) -> int:
        """How many calls are being made."""
        return self._places.taken

    def allow(self, in_flight: int) -> None:
        """Make so many calls at once from now on; those under way go on."""
        self._places.limit = in_flight
        self._begin_soon()

    @property
    def waiting(self) -> int:
        """How many calls were read and stand in line."""
        return len(self._admission)

    async def lag(self) -> int:
        """How many calls of the assigned partitions have not been begun."""
        return self.waiting + await unread(self._consumer)

    @property
    def share(self) -> float:
        """The fraction of the entry's rate limits that this process may use, from 0 to 1."""
        return self._admission.share

    @property
    def rate_limited(self) -> tuple[str, ...]:
        """Who waits for a rate limit: the entry's name, or `entry/model`."""
        return self._admission.held

    def stop(self) -> None:
        """Take no more calls; `run` returns once those in flight have ended."""
        self._stopping.set()
        self._read_on.set()

    async def run(self) -> None:
        """Work until stopped, then drain and commit.

        Raises:
            BrokerError: Kafka cannot be reached, or a record cannot be written.
        """
        consumer = self._consumer
        try:
            await consumer.start()
            self._holding.follow(consumer)
            moving = Rebalance(give_up=self._give_up, take_over=self._take_over)
            consumer.subscribe([self._topic], listener=moving)
            committer = asyncio.create_task(self._commits.run())
            committer.add_done_callback(self._note_failure)
            try:
                await self._intake()
                await self._drain(self._settings.drain_seconds)
            finally:
                committer.cancel()
                # Also where it was not told to stop: what is broken off makes room for others.
                self._stopping.set()
                await self._break_off(set(self._tasks))
                self._alarm.off()
            await self._commits.now()
        except KafkaError as error:
            raise translate(error, f"read {self._topic!r}") from error
        finally:
            await consumer.stop()

    async def _intake(self) -> None:
        while not self._stopping.is_set():
            if self._failure is not None:
                raise self._failure
            room = self._admission.room
            if room <= 0:
                await self._wait_for_room()
                continue
            await self._take(timeout_ms=_POLL_MS, max_records=min(room, _MOST_AT_ONCE))
            # What has been fetched already comes without a pause; calls under way need theirs.
            await asyncio.sleep(0)

    async def _take(self, *, timeout_ms: int, max_records: int) -> None:
        batches = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
        if batches and not await self._holding.learned():
            return
        for at, records in batches.items():
            # What arrives while a partition is being given up is read again by its next owner.
            if Partition(*at) in self._holding:
                for record in records:
                    self._take_up(record)
        self._begin_soon()

    async def _wait_for_room(self) -> None:
        """Pause the partitions until calls have ended; the group still hears from us."""
        consumer = self._consumer
        while not self._admission.low and not self._stopping.is_set():
            self._read_on.clear()
            # Asked each time: partitions that a rebalance brings back are not paused any more.
            if fresh := consumer.assignment() - consumer.paused():
                consumer.pause(*fresh)
            try:
                await asyncio.wait_for(self._read_on.wait(), timeout=_POLL_MS / 1000)
            except TimeoutError:
                # A poll with everything paused tells the group that this member is alive; only
                # partitions that came in a rebalance a moment ago can answer it.
                await self._take(timeout_ms=0, max_records=1)
            if self._failure is not None:
                break
        if paused := consumer.paused():
            consumer.resume(*paused)

    def _begin_soon(self) -> None:
        """Begin calls as far as there are places for them, some in each turn of the event loop."""
        if not self._beginning:
            self._beginning = True
            running_loop().call_soon(self._begin_some)

    def _begin_some(self) -> None:
        """Begin the next few.

        A call leaves its place when the provider has answered; its records may still be on their
        way to the broker then, which is bounded apart.
        """
        self._beginning = False
        if self._stopping.is_set():
            return
        held_for = None
        for _ in range(_MOST_AT_ONCE):
            if (
                not self._places.room
                # Looked at again at the next alarm: the group's answer says whose the calls are.
                or not self._holding.leased
                or not self._unfinished.leaves_room(self._places.limit)
            ):
                break
            admitted = self._admission.next()
            if admitted is None:
                held_for = self._admission.retry_in
                break
            self._begin(admitted.arrival, self._places.begin(admitted.reservation))
        else:
            self._begin_soon()
        if self._admission.low:
            self._read_on.set()
        if len(self._admission) or self._places.preparing:
            self._alarm.within(_LOOK_SECONDS if held_for is None else min(held_for, _LOOK_SECONDS))

    def _look(self) -> None:
        """End what has expired or was cancelled while it waited, and begin what may begin now."""
        # The partitions may be leased again.
        self._places.hand_out()
        if self._stopping.is_set():
            if self._places.preparing:
                self._alarm.within(_LOOK_SECONDS)
            return
        if self._holding.leased:
            for arrival in self._admission.over():
                # It asks nobody, so it needs no place.
                self._begin(arrival)
        self._admission.report()
        self._begin_soon()

    def _take_up(self, record: Any) -> None:
        source = raw_record(record)
        partition = Partition(source.topic, source.partition)
        try:
            self._tracker.start(partition, source.offset)
        except ValueError:
            # The topic was made anew, or its log cut: offsets begin again.
            log.warning("offsets.went_back", partition=partition, offset=source.offset)
            self._admission.withdraw((partition,))
            self._tracker.forget(partition)
            self._tracker.start(partition, source.offset)
        if self._tracker.was_finished(partition, source.offset):
            # Whoever held the partition before had ended it behind one that had not.
            self._tracker.finish(partition, source.offset)
            return
        self._admission.put(source)

    def _begin(self, arrival: Arrival, place: Place | None = None) -> None:
        task = running_loop().create_task(self._work_off(arrival, place))
        self._tasks[task] = Begun(arrival, place)
        self._unfinished.begin(arrival.size)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        arrival, place = self._tasks.pop(task)
        self._unfinished.end(arrival.size)
        if place is not None:
            self._leave(place)
        self._begin_soon()
        self._note_failure(task)

    def _note_failure(self, task: "asyncio.Task[None]") -> None:
        """Let `run` end with the first failure, be it of a call or of committing."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failure is None:
            self._failure = error
            self._read_on.set()

    async def _work_off(self, arrival: Arrival, place: Place | None) -> None:
        if arrival.problem is not None:
            await (await self._set_aside(arrival.source, arrival.problem))
        elif arrival.call is not None:
            await self._make_once(arrival, arrival.call, place)
        if crash_points.armed:
            crash_points.reach(CrashPoint.CALL_ACKNOWLEDGED)
        self._commits.finish(arrival.partition, arrival.source.offset)

    async def _make_once(self, arrival: Arrival, call: Call, place: Place | None) -> None:
        if place is not None and self._attempts.is_running(call.attempt_id):
            # It waits for the one that was read before, and keeps no other call from beginning.
            self._leave(place)
            place = None

        async def make() -> bool:
            own = self._places.begin() if place is None else place
            try:
                return await self._exchange.run(
                    call, place=own, input_tokens=arrival.input_tokens, call_json=arrival.call_json
                )
            finally:
                self._leave(own)

        await self._attempts.once(call.attempt_id, make)

    def _leave(self, place: Place) -> None:
        # Of a call that was made nothing is left to release.
        self._admission.release(place.quota)
        place.leave()

    async def _drain(self, seconds: float, partitions: set[Partition] | None = None) -> None:
        tasks = [
            task
            for task, each in self._tasks.items()
            if partitions is None or each.arrival.partition in partitions
        ]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
            if crash_points.armed:
                crash_points.reach(CrashPoint.DRAINED)

    async def _break_off(self, tasks: "set[asyncio.Task[None]]") -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _give_up(self, partitions: set[Partition]) -> None:
        self._holding.give_up(partitions)
        self._admission.withdraw(partitions)
        await self._drain(self._settings.drain_seconds, partitions)
        # From here on another process may begin what has not been sent.
        await self._break_off(
            {
                task
                for task, (arrival, place) in self._tasks.items()
                if arrival.partition in partitions and place is not None and place.preparing
            }
        )
        await self._commits.now()
        for partition in partitions:
            self._tracker.forget(partition)

    async def _take_over(self, partitions: set[Partition]) -> None:
        self._holding.take_over(partitions)
        everything = self._consumer.partitions_for_topic(self._topic)
        # The callers of an entry share its limits as they share its calls.
        self._admission.share = min(1.0, len(partitions) / max(1, len(everything or ())))
        self.ready.set()
        lost = {
            task for task, each in self._tasks.items() if each.arrival.partition not in partitions
        }
        await self._break_off(lost)
