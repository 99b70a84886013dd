"""Calls that wait for their time, and go on then."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, RequestTimedOutError
from consumed_log import Log, LogConsumer
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_doubles import Coordinator, RecordingPublisher, until
from pipeline_records import at, make_call, make_job

from millrace.schemas.call import Call
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.errors import BrokerError, ErrorInfo, PipelineError
from millrace.schemas.record import TRACE_HEADER
from millrace.schemas.retry import Retry
from millrace.streams.cancellations import Cancellations
from millrace.streams.dead_letters import RawRecord
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.offsets import OffsetTracker, Partition
from millrace.streams.retries import Retries
from millrace.streams.retry_heap import RetryHeap, WaitingCall
from millrace.streams.retry_settings import RetrySettings

TOPIC = "llm.retries"
ZERO = TopicPartition(TOPIC, 0)
ONE = TopicPartition(TOPIC, 1)
KAFKA = KafkaSettings(bootstrap_servers=("localhost:1",))
BUSY = ErrorInfo(code="rate_limited", message="slow down", retryable=True)


def retry(name: str, *, due: float, deadline: float = 600.0) -> Retry:
    """A call that waits until `due`, in seconds after the request was accepted."""
    job = make_job(name, seconds=deadline)
    return Retry(call=make_call(job), not_before=at(due), reason=BUSY)


@dataclass
class Bench:
    """A process that sends calls on, and a clock that a test sets."""

    log: Log = field(default_factory=lambda: Log(TOPIC))
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)
    now: datetime = field(default_factory=lambda: at(0))
    set_aside: list[tuple[int, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Setting records aside waits for this."""
    consumer: LogConsumer = field(init=False)
    group: Coordinator = field(init=False)
    retries: Retries = field(init=False)

    def __post_init__(self) -> None:
        self.gate.set()
        self.cancellations = Cancellations(window=timedelta(hours=1), clock=lambda: self.now)

    async def _set_aside(
        self, source: RawRecord, error: PipelineError, **_: Any
    ) -> "asyncio.Future[Any]":
        self.set_aside.append((source.offset, error.code))
        await self.gate.wait()
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def _resume(
        self,
        _: KafkaSettings,
        tracker: OffsetTracker,
        group: str,
        partitions: Iterable[Partition],
    ) -> None:
        assert group == "app-retries"
        self.log.tell(tracker, partitions)

    def _new_consumer(self, **kwargs: Any) -> LogConsumer:
        assert kwargs["group_id"] == "app-retries"
        assert kwargs["enable_auto_commit"] is False
        self.consumer = LogConsumer(self.log)
        self.group = self.consumer.group
        return self.consumer

    @asynccontextmanager
    async def running(
        self, *partitions: TopicPartition, stop: bool = True, **limits: float
    ) -> AsyncIterator[None]:
        """Run with these partitions (the first one unless told); kill it unless `stop`."""
        self.retries = Retries(
            topic=TOPIC,
            group="app-retries",
            calls_topic=lambda provider: f"llm.calls.{provider}",
            kafka=KAFKA,
            settings=RetrySettings.model_validate({"commit_interval_seconds": 0.001, **limits}),
            publisher=self.publisher,  # type: ignore[arg-type]
            set_aside=self._set_aside,
            cancellations=self.cancellations,
            clock=lambda: self.now,
            new_consumer=self._new_consumer,
            resume=self._resume,
            monotonic=lambda: self.group.time,
        )
        task = asyncio.create_task(self.retries.run())
        await until(lambda: self.consumer.listener is not None)
        await self.consumer.assign(*(partitions or (ZERO,)))
        try:
            yield
        finally:
            if stop:
                self.retries.stop()
            else:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def read(self, offset: int, partition: TopicPartition = ZERO) -> None:
        """Return once the process has read so far, and has acted on it."""
        await until(lambda: self.consumer.positions[partition] >= offset)
        for _ in range(5):
            await asyncio.sleep(0)

    async def committed(self, offset: int, partition: TopicPartition = ZERO) -> None:
        """Return once so much is committed."""
        await until(lambda: self.log.committed.get(partition) == offset)

    @property
    def sent(self) -> list[str]:
        """The calls that went on, by request."""
        return [self.call(number).job.request_id for number in range(len(self.publisher.written))]

    def call(self, number: int) -> Call:
        """A call that went on."""
        return Call.decode(self.publisher.written[number].value or b"")


async def test_a_call_goes_on_when_its_time_has_come() -> None:
    """Whole, to its provider's topic, under its key, with its trace."""
    bench = Bench()
    trace = (TRACE_HEADER, b"00-1-2-01")
    waiting = retry("a", due=10)
    bench.log.write(waiting, key=b"conversation", headers=(*Retry.kafka_headers(), trace))
    async with bench.running():
        await bench.read(1)
        assert (bench.sent, bench.retries.waiting) == ([], 1)
        bench.now = at(10)
        await bench.committed(1)

    (sent,) = bench.publisher.written
    assert bench.call(0) == waiting.call
    assert (sent.topic, sent.key) == ("llm.calls.p00", b"conversation")
    assert sent.headers == (*Call.kafka_headers(), trace)


async def test_calls_go_on_in_the_order_of_their_times() -> None:
    """Not in that of their coming, but in it where times are equal."""
    bench = Bench()
    for name, due in (("c", 30), ("a", 10), ("b1", 20), ("b2", 20)):
        bench.log.write(retry(name, due=due))
    async with bench.running():
        await bench.read(4)
        bench.now = at(20)
        await until(lambda: len(bench.sent) == 3)
        assert bench.log.committed.get(ZERO, 0) == 0
        bench.now = at(30)
        await bench.committed(4)

    assert bench.sent == ["a", "b1", "b2", "c"]


async def test_a_call_whose_deadline_comes_first_goes_on_then() -> None:
    """Its caller ends it: the requester is told at once, not at the end of the wait."""
    bench = Bench()
    bench.log.write(retry("late", due=100, deadline=20))
    bench.log.write(retry("expired", due=100, deadline=0))
    async with bench.running():
        await until(lambda: bench.sent == ["expired"])
        bench.now = at(20)
        await bench.committed(2)

    assert bench.sent == ["expired", "late"]


async def test_a_cancelled_call_goes_on_at_once() -> None:
    """Its caller ends it then; also when the cancellation came first, and no other member's."""
    bench = Bench()
    bench.cancellations.add(Cancellation(request_id="first"))
    for name in ("waits", "stopped", "first", "other-member"):
        bench.log.write(retry(name, due=100))
    async with bench.running():
        await bench.read(4)
        assert bench.sent == ["first"]

        bench.cancellations.add(Cancellation(request_id="stopped"))
        bench.cancellations.add(Cancellation(request_id="other-member", members=(1,)))
        await until(lambda: len(bench.sent) == 2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert bench.sent == ["first", "stopped"]

        bench.now = at(100)
        await until(lambda: len(bench.sent) == 4)
        assert bench.sent[2:] == ["waits", "other-member"]


async def test_nothing_is_committed_before_the_broker_holds_the_call() -> None:
    """Else a crash in between would lose it."""
    bench = Bench(publisher=RecordingPublisher(hold=True))
    bench.log.write(retry("a", due=0))
    async with bench.running():
        await until(lambda: bench.sent == ["a"])
        await bench.read(1)
        assert bench.log.committed == {}
        bench.publisher.acknowledge()
        await bench.committed(1)


async def test_a_killed_process_loses_nothing() -> None:
    """The next one reads what was not committed again."""
    bench = Bench()
    for name, due in (("long", 50), ("short", 1)):
        bench.log.write(retry(name, due=due))
    async with bench.running(stop=False, commit_interval_seconds=1000):
        bench.now = at(1)
        await until(lambda: bench.sent == ["short"])
    assert bench.log.committed == {}

    async with bench.running():
        bench.now = at(50)
        await bench.committed(2)

    assert bench.sent == ["short", "short", "long"]
    assert bench.call(0) == bench.call(1)


async def test_what_went_on_behind_one_that_waits_is_not_sent_again_after_a_kill() -> None:
    """The commit cannot pass the one that waits, but says so."""
    bench = Bench()
    for name, due in (("long", 50), ("short", 1)):
        bench.log.write(retry(name, due=due))
    bench.now = at(1)
    async with bench.running(stop=False):
        await bench.committed(0)

    async with bench.running():
        await bench.read(2)
        assert bench.retries.waiting == 1
        bench.now = at(50)
        await bench.committed(2)

    assert bench.sent == ["short", "long"]


async def test_a_stop_leaves_what_waits_on_the_topic() -> None:
    """And commits what went on."""
    bench = Bench()
    bench.log.write(retry("now", due=0))
    bench.log.write(retry("later", due=50))
    async with bench.running(commit_interval_seconds=1000):
        await until(lambda: bench.sent == ["now"])

    assert bench.log.committed == {ZERO: 1}


async def test_a_partition_that_is_given_up_takes_its_calls_along() -> None:
    """Its next owner sends them on; those of other partitions are read again."""
    bench = Bench()
    bench.log.write(retry("zero", due=10), partition=ZERO)
    bench.log.write(retry("one", due=10), partition=ONE)
    async with bench.running(ZERO, ONE):
        await until(lambda: bench.retries.waiting == 2)
        await bench.consumer.assign(ONE)
        bench.now = at(10)
        await bench.committed(1, ONE)

        assert bench.sent == ["one"]
    assert bench.log.committed == {ONE: 1}


async def test_a_partition_that_comes_back_sends_nothing_twice() -> None:
    """Also where no commit could say what went on: it is remembered."""
    bench = Bench()
    bench.log.write(retry("long", due=50))
    bench.log.write(retry("short", due=1))
    bench.now = at(1)
    async with bench.running():
        bench.consumer.refusal = CommitFailedError()
        await until(lambda: bench.sent == ["short"])
        await bench.consumer.assign(ONE)
        await bench.consumer.assign(ZERO)
        await bench.read(2)
        assert bench.retries.waiting == 1
        bench.log.write(retry("short", due=2))
        bench.consumer.refusal = None
        bench.now = at(50)
        await bench.committed(3)

    assert bench.sent == ["short", "short", "long"]


async def test_it_remembers_so_many_and_no_more() -> None:
    """The oldest is forgotten, and would be sent on again."""
    bench = Bench()
    for name, due in (("long", 50), ("a", 1), ("b", 1)):
        bench.log.write(retry(name, due=due))
    bench.now = at(1)
    async with bench.running(remembered_calls=1):
        bench.consumer.refusal = CommitFailedError()
        await until(lambda: bench.sent == ["a", "b"])
        await bench.consumer.assign(ZERO)
        await bench.read(3)
        await until(lambda: len(bench.sent) == 3)

    assert bench.sent == ["a", "b", "a"]


async def test_a_partition_is_given_up_with_its_deliveries_committed() -> None:
    """So that its next owner does not send the same call again."""
    bench = Bench(publisher=RecordingPublisher(hold=True))
    bench.log.write(retry("a", due=0))
    async with bench.running(commit_interval_seconds=1000):
        await until(lambda: bench.sent == ["a"])
        moving = asyncio.create_task(bench.consumer.assign(ONE))
        await until(lambda: Partition(*ZERO) not in bench.retries._holding)
        bench.publisher.acknowledge()
        await moving

        assert bench.log.committed == {ZERO: 1}


async def test_a_process_that_was_frozen_sends_nothing_on_before_the_group_answers_it() -> None:
    """Its partitions may have gone to another one, which sends the same calls on."""
    bench = Bench()
    for name in ("one", "two"):
        bench.log.write(retry(name, due=10))
    async with bench.running(poll_seconds=0.001):
        await bench.read(2)
        bench.group.time = KAFKA.session_timeout_seconds
        bench.now = at(60)
        bench.log.write(retry("three", due=10))
        await bench.read(3)
        assert bench.sent == []

        assert await bench.group._do_heartbeat()
        await bench.committed(3)

    assert bench.sent == ["one", "two", "three"]


async def test_partitions_that_change_hands_amid_a_batch_are_read_from_the_commit_on() -> None:
    """The rest of the batch is not begun: a commit of it would pass what came before."""
    bench = Bench()
    bench.log.write(retry("first", due=10))
    bench.log.write(b"{")
    bench.log.write(retry("last", due=0))
    bench.gate.clear()
    async with bench.running():
        await until(lambda: len(bench.set_aside) == 1)
        await bench.consumer.assign(ZERO)
        bench.consumer.answers.clear()
        bench.gate.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert bench.sent == []
        bench.consumer.answers.set()
        await until(lambda: bench.sent == ["last"])
        await bench.read(3)
        assert bench.log.committed.get(ZERO, 0) == 0
        bench.now = at(10)
        await bench.committed(3)

    assert bench.sent == ["last", "first"]


async def test_with_too_many_waiting_the_topic_is_read_no_further() -> None:
    """Until some have gone on."""
    bench = Bench()
    for number in range(25):
        bench.log.write(retry(f"{number:02}", due=number))
    async with bench.running(max_waiting=10):
        await until(lambda: bench.consumer.paused() == {ZERO})
        assert bench.retries.waiting <= 11
        bench.now = at(5)
        await until(lambda: bench.consumer.positions[ZERO] > 12)
        assert bench.retries.waiting <= 11
        bench.now = at(24)
        await bench.committed(25)

    assert bench.sent == [f"{number:02}" for number in range(25)]


async def test_too_many_bytes_waiting_pause_it_too() -> None:
    """Also partitions that come while it is full."""
    bench = Bench()
    for partition in (ZERO, ONE):
        for number in range(3):
            bench.log.write(retry(f"{partition.partition}{number}", due=10), partition=partition)
    async with bench.running(max_waiting_bytes=1):
        await until(lambda: bench.consumer.paused() == {ZERO})
        await bench.consumer.assign(ZERO, ONE)
        await until(lambda: bench.consumer.paused() == {ZERO, ONE})
        bench.now = at(10)
        await bench.committed(3, ZERO)
        await bench.committed(3, ONE)

    assert sorted(set(bench.sent)) == ["00", "01", "02", "10", "11", "12"]


async def test_a_call_for_a_topic_that_is_not_there_is_set_aside() -> None:
    """Its provider was taken away, or never was; the others go on."""
    bench = Bench()
    bench.publisher.missing = {f"llm.calls.{retry('a', due=0).call.target.provider}"}
    bench.log.write(retry("a", due=0))
    async with bench.running():
        await bench.committed(1)
        bench.publisher.missing = set()
        bench.log.write(retry("b", due=0))
        await bench.committed(2)

    assert bench.sent == ["b"]
    assert bench.set_aside == [(0, "internal_record_invalid")]


async def test_what_is_no_retry_is_set_aside() -> None:
    """Its neighbours do not notice."""
    bench = Bench()
    bench.log.write(b"{")
    bench.log.write(None)
    bench.log.write(retry("a", due=0))
    async with bench.running():
        await bench.committed(3)

    assert bench.sent == ["a"]
    assert bench.set_aside == [(0, "internal_record_invalid"), (1, "internal_record_invalid")]


async def test_a_topic_that_begins_again_is_read_anew() -> None:
    """It was deleted and made again: what waited of the old one is gone with it."""
    bench = Bench()
    for number in range(3):
        bench.log.write(retry(f"old{number}", due=10))
    async with bench.running():
        await bench.read(3)
        bench.log.records[ZERO].clear()
        bench.log.write(retry("new", due=10))
        bench.consumer.positions[ZERO] = 0
        await until(lambda: bench.retries.waiting == 1)
        bench.now = at(10)
        await bench.committed(1)

    assert bench.sent == ["new"]


async def test_a_call_that_cannot_be_delivered_ends_the_process_uncommitted() -> None:
    """It cannot go on without its producer, and the next process begins where it ended."""
    bench = Bench(publisher=RecordingPublisher(hold=True))
    bench.log.write(retry("a", due=0))

    async def lose_the_delivery() -> None:
        async with bench.running():
            await until(lambda: len(bench.publisher.pending) == 1)
            bench.publisher.pending[0].set_exception(BrokerError("the broker is gone"))
            await bench.read(1)

    with pytest.raises(BrokerError, match="gone"):
        await lose_the_delivery()

    assert bench.log.committed == {}


async def test_a_commit_that_is_refused_is_tried_again() -> None:
    """Partitions that change hands refuse commits; so does a broker that is away."""
    bench = Bench()
    bench.log.write(retry("a", due=0))
    async with bench.running():
        for refusal in (RequestTimedOutError(), CommitFailedError()):
            bench.consumer.refusal = refusal
            await until(lambda each=refusal: each in bench.consumer.refused)
        assert bench.log.committed == {}
        bench.consumer.refusal = None
        await bench.committed(1)


@given(
    dues=st.lists(st.integers(0, 20), min_size=1, max_size=25),
    steps=st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=6),
)
@settings(max_examples=15, deadline=None)
async def test_each_call_goes_on_not_before_its_time_whatever_happens(
    dues: list[int], steps: list[tuple[int, bool]]
) -> None:
    """For any times, with kills in between: none is lost, none early, commits are true."""
    bench = Bench()
    for number, due in enumerate(dues):
        bench.log.write(retry(str(number), due=due))
    now = 0
    for seconds, kill in steps:
        async with bench.running(stop=not kill, max_waiting=6):
            now += seconds
            bench.now = at(now)
            await bench.read(min(6, len(dues)))
        assert all(dues[int(name)] <= now for name in bench.sent)
        done = {int(name) for name in bench.sent}
        assert set(range(bench.log.committed.get(ZERO, 0))) <= done
    async with bench.running():
        bench.now = at(20)
        await until(lambda: bench.log.committed.get(ZERO) == len(dues))

    assert {int(name) for name in bench.sent} == set(range(len(dues)))


@given(
    entries=st.lists(
        st.tuples(st.floats(0, 100), st.integers(0, 2), st.binary(max_size=8)), max_size=40
    ),
    dropped=st.integers(0, 2),
    now=st.floats(0, 100),
)
@settings(max_examples=80, deadline=None)
def test_the_heap_gives_what_is_due_in_order_and_counts_bytes(
    entries: list[tuple[float, int, bytes]], dropped: int, now: float
) -> None:
    """Also after a partition was taken out of its middle."""
    heap = RetryHeap()
    for offset, (due, partition, value) in enumerate(entries):
        heap.push(
            WaitingCall(
                due=due, identity="i", request_id="r", member=0, topic="t", key=None, value=value,
                partition=Partition(TOPIC, partition), offset=offset, headers=(),
            )
        )  # fmt: skip
    heap.drop({Partition(TOPIC, dropped)})
    left = sorted(
        (due, offset) for offset, (due, partition, _) in enumerate(entries) if partition != dropped
    )
    assert heap.size_bytes == sum(len(entries[offset][2]) for _, offset in left)
    assert heap.next_due == (left[0][0] if left else None)

    popped = []
    while (waiting := heap.pop_due(now)) is not None:
        popped.append((waiting.due, waiting.offset))

    assert popped == [entry for entry in left if entry[0] <= now]
    assert len(heap) == len(left) - len(popped)
    assert heap.size_bytes == sum(len(entries[offset][2]) for _, offset in left[len(popped) :])
