"""What a caller begins and sends while its partitions may have gone to another process."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from consumed_log import Log, LogConsumer
from exchange_bench import WHOLE, Bench, bench
from pipeline_doubles import until
from pipeline_records import make_call, make_job

from millrace.providers.rate_limit import RateLimiter, RateLimits
from millrace.schemas.call import Call
from millrace.schemas.message import Message
from millrace.streams.admission import Admission
from millrace.streams.attempts import Attempts
from millrace.streams.caller import Caller
from millrace.streams.dead_letters import RawRecord
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.lanes import LaneSettings
from millrace.streams.offsets import OffsetTracker, Partition
from millrace.streams.settings import CallerSettings

TOPIC = "llm.calls.p00"
ZERO = TopicPartition(TOPIC, 0)
KAFKA = KafkaSettings(bootstrap_servers=("localhost:1",))


@dataclass
class Process:
    """A caller over a topic in memory, whose provider answers when a test says so."""

    log: Log = field(default_factory=lambda: Log(TOPIC))
    answers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    consumer: LogConsumer = field(init=False)
    caller: Caller = field(init=False)
    books: Bench = field(init=False)

    def __post_init__(self) -> None:
        self.consumer = LogConsumer(self.log)
        self.books = bench(self._wait_for_its_answer, WHOLE)

    async def _wait_for_its_answer(self) -> None:
        await self.answers.acquire()

    def write(self, *names: str) -> None:
        """Append a call for each name; the name is its request's id and prompt."""
        for name in names:
            job = make_job(name, messages=(Message(role="user", content=name),))
            self.log.write(make_call(job))

    def _new_consumer(self, **kwargs: Any) -> LogConsumer:
        assert kwargs["enable_auto_commit"] is False
        return self.consumer

    async def _resume(
        self, _: KafkaSettings, tracker: OffsetTracker, group: str, partitions: Iterable[Partition]
    ) -> None:
        assert group == "app-caller-p00"
        self.log.tell(tracker, partitions)

    async def _set_aside(
        self, source: RawRecord, error: Exception, **_: Any
    ) -> "asyncio.Future[Any]":
        raise AssertionError(f"{source.offset}: {error}")

    def _seconds(self) -> float:
        return self.consumer.group.time

    def _count(self, _: Call) -> int:
        return 10

    @asynccontextmanager
    async def running(self, *, in_flight: int) -> AsyncIterator[None]:
        """Run with the first partition; calls that are not answered in the end are broken off."""
        exchange = self.books.exchange()
        self.caller = Caller(
            provider="p00",
            topic=TOPIC,
            group="app-caller-p00",
            in_flight=in_flight,
            kafka=KAFKA,
            settings=CallerSettings(commit_interval_seconds=0.001, drain_seconds=0.01),
            admission=Admission(
                provider="p00",
                limiter=RateLimiter(limits=RateLimits(), now=self._seconds),
                settings=LaneSettings(),
                records=100,
                content_bytes=10**9,
                count_tokens=self._count,
                is_over=exchange.unmade.is_over,
                is_turned_away=exchange.is_turned_away,
                now=self._seconds,
            ),
            exchange=exchange,
            attempts=Attempts(remembered=100),
            set_aside=self._set_aside,
            new_consumer=self._new_consumer,
            resume=self._resume,
            monotonic=self._seconds,
        )
        task = asyncio.create_task(self.caller.run())
        await until(lambda: self.consumer.listener is not None)
        await self.consumer.assign(ZERO)
        try:
            yield
        finally:
            self.caller.stop()
            await task

    async def settle(self, *, read: int) -> None:
        """Return once the caller has read so far, and has done all that it may."""
        await until(lambda: self.consumer.positions[ZERO] >= read)
        for _ in range(50):
            await asyncio.sleep(0)

    async def prepare_two_for_one_place(self) -> None:
        """Have `one` at the provider, and `two` in the books, waiting for the same place."""
        self.write("one", "two")
        publisher = self.books.publisher
        publisher.hold = True
        await until(lambda: self.reserved == ["one", "two"])
        self.caller.allow(1)
        publisher.hold = False
        publisher.acknowledge()
        await until(lambda: self.asked == ["one"])
        await self.settle(read=2)

    @property
    def asked(self) -> list[str]:
        """What the provider was asked, by request."""
        return [str(each.messages[0].content) for each in self.books.provider.asked]

    @property
    def reserved(self) -> list[str]:
        """The calls that are in the books, by request."""
        return [each.request_id for each in self.books.publisher.ledger if each.event == "reserved"]

    @property
    def ended(self) -> list[str]:
        """The requests whose attempt has ended."""
        return [each.call.job.request_id for each in self.books.publisher.outcomes]


async def test_a_caller_that_was_frozen_begins_nothing_before_the_group_answers_it() -> None:
    """Its waiting calls may have gone to another one, which makes them."""
    process = Process()
    process.write("one", "two")
    async with process.running(in_flight=1):
        await until(lambda: process.asked == ["one"])
        process.consumer.group.time += KAFKA.session_timeout_seconds
        process.write("three")
        process.answers.release()
        await until(lambda: process.ended == ["one"])
        await process.settle(read=3)
        assert process.reserved == ["one"]

        assert await process.consumer.group._do_heartbeat()
        process.answers.release()
        process.answers.release()
        await until(lambda: process.log.committed.get(ZERO) == 3)

    assert process.asked == ["one", "two", "three"]


async def test_a_caller_that_was_frozen_sends_nothing_that_it_had_reserved() -> None:
    """An answer frees a place, and who waits for it may be another one's by now."""
    process = Process()
    async with process.running(in_flight=2):
        await process.prepare_two_for_one_place()
        process.consumer.group.time += KAFKA.session_timeout_seconds
        process.answers.release()
        await until(lambda: process.ended == ["one"])
        await process.settle(read=2)
        assert process.asked == ["one"]

        assert await process.consumer.group._do_heartbeat()
        process.answers.release()
        await until(lambda: process.log.committed.get(ZERO) == 2)

    assert process.asked == ["one", "two"]


async def test_what_waits_for_its_place_is_not_sent_once_its_partition_is_given_up() -> None:
    """Whoever has the partition next makes it; what is at the provider goes on."""
    process = Process()
    async with process.running(in_flight=2):
        await process.prepare_two_for_one_place()
        await process.consumer.revoke()
        process.answers.release()
        await until(lambda: process.ended == ["one"])
        await process.settle(read=2)
        assert process.asked == ["one"]

    (given_up,) = [
        each
        for each in process.books.publisher.ledger
        if (each.request_id, each.event) == ("two", "spent")
    ]
    assert (given_up.error_code, given_up.cost_usd) == ("interrupted", 0)
