"""Bringing what the topics hold into the store, batch by batch."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import TopicPartition
from pipeline_doubles import RecordingPublisher
from pipeline_examples import EXAMPLES
from pipeline_records import EPOCH, at

from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.errors import SinkUnavailableError
from millrace.sinks.protocol import RejectedRow, RowsRejectedError, SinkRecord
from millrace.streams.dead_letters import DeadLetters
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.sink_consumer import SinkConsumer
from millrace.streams.topics import TopicNames

NAMES = TopicNames()
ONE, TWO = TopicPartition(NAMES.usage, 0), TopicPartition(NAMES.usage, 1)
VALUE = EXAMPLES["usage-event"].encode()


@dataclass
class Fetched:
    """A record as the client library hands it over."""

    topic: str
    partition: int
    offset: int
    value: bytes | None = VALUE
    key: bytes | None = b"k"
    timestamp: int = round(EPOCH.timestamp() * 1000)
    headers: tuple[tuple[str, bytes], ...] = ()


class Partitions:
    """The client library's consumer, on a script: what each poll brings, and what is committed."""

    def __init__(self, *polls: dict[TopicPartition, list[Fetched]]) -> None:
        self.polls = list(polls)
        self.held: set[TopicPartition] = {ONE}
        self._paused: set[TopicPartition] = set()
        self.commits: list[dict[TopicPartition, int]] = []

    def assignment(self) -> set[TopicPartition]:
        return self.held

    def paused(self) -> set[TopicPartition]:
        return self._paused & self.held

    def pause(self, *partitions: TopicPartition) -> None:
        self._paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self._paused -= set(partitions)

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Fetched]]:
        return self.polls.pop(0) if self.polls else {}

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.commits.append(offsets)


class ListSink:
    """Keeps batches; the first writes fail as told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.stored: list[SinkRecord] = []

    async def open(self) -> None: ...

    async def write(self, batch: Sequence[SinkRecord]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.stored += batch

    async def aclose(self) -> None: ...


@dataclass
class Bench:
    """A consumer at work on scripted polls."""

    consumer: SinkConsumer
    partitions: Partitions
    sink: ListSink
    publisher: RecordingPublisher


class MakeBench:
    """Makes benches, and closes what they replaced."""

    def __init__(self) -> None:
        self.replaced: list[Any] = []

    def __call__(self, partitions: Partitions, sink: ListSink) -> Bench:
        publisher = RecordingPublisher()
        consumer = SinkConsumer(
            sink=sink,
            kafka=KafkaSettings(bootstrap_servers=("nowhere:1",)),
            topics=NAMES,
            group="g",
            batch_rows=10,
            batch_seconds=0.0,
            set_aside=DeadLetters(publisher=publisher, topic="dead", clock=lambda: at(1)),  # type: ignore[arg-type]
            monotonic=lambda: 0.0,
        )
        self.replaced.append(consumer._consumer)
        consumer._consumer = partitions  # type: ignore[assignment]
        return Bench(consumer, partitions, sink, publisher)


@pytest.fixture
async def bench() -> AsyncIterator[MakeBench]:
    """Makes benches."""
    make = MakeBench()
    yield make
    for consumer in make.replaced:
        await consumer.stop()


def fetched(*offsets: int, partition: TopicPartition = ONE) -> dict[TopicPartition, list[Fetched]]:
    """Ledger events at these offsets."""
    return {partition: [Fetched(partition.topic, partition.partition, each) for each in offsets]}


async def test_offsets_are_committed_once_their_rows_are_stored(bench: MakeBench) -> None:
    """Up to the last one read."""
    at_work = bench(Partitions(fetched(0, 1, 4)), ListSink())
    await at_work.consumer._poll()

    assert len(at_work.sink.stored) == 3
    assert at_work.partitions.commits == [{ONE: 5}]


async def test_what_a_rebalance_brings_while_the_store_is_away_is_not_lost(
    bench: MakeBench,
) -> None:
    """The poll that keeps the membership may bring records of a partition that came just now."""
    away = SinkUnavailableError("not now", retry_after=0.001)
    at_work = bench(Partitions(fetched(0), fetched(7, partition=TWO)), ListSink(away))
    at_work.partitions.held = {ONE, TWO}
    await at_work.consumer._poll()

    assert len(at_work.sink.stored) == 2
    assert at_work.partitions.commits == [{ONE: 1, TWO: 8}]
    assert at_work.partitions.paused() == set()


async def test_partitions_that_were_taken_away_are_not_committed(bench: MakeBench) -> None:
    """Their rows are stored all the same; the new owner stores them again as the same rows."""
    at_work = bench(Partitions(fetched(0) | fetched(0, partition=TWO)), ListSink())
    await at_work.consumer._poll()

    assert len(at_work.sink.stored) == 2
    assert at_work.partitions.commits == [{ONE: 1}]


async def test_a_record_that_cannot_be_read_is_passed_over(bench: MakeBench) -> None:
    """With its offset committed."""
    bad = {ONE: [Fetched(NAMES.usage, 0, 0, value=b"nonsense")]}
    at_work = bench(Partitions(bad), ListSink())
    await at_work.consumer._poll()

    assert (at_work.sink.stored, at_work.partitions.commits) == ([], [{ONE: 1}])


async def test_a_row_that_is_refused_becomes_a_dead_letter(bench: MakeBench) -> None:
    """Its neighbours are stored already."""
    refused = RowsRejectedError([RejectedRow(position=1, row_id="r", reason="too long")])
    at_work = bench(Partitions(fetched(0, 1)), ListSink(refused))
    await at_work.consumer._poll()

    assert [each.topic for each in at_work.publisher.written] == ["dead"]
    assert at_work.partitions.commits == [{ONE: 2}]


@pytest.mark.parametrize("name", [each for each in EXAMPLES if each.startswith("budget-")])
async def test_what_is_asked_of_budgets_is_passed_over(bench: MakeBench, name: str) -> None:
    """It lies among the ledger's events; its offset is committed with theirs."""
    record = EXAMPLES[name]
    about = Fetched(ONE.topic, 0, 1, record.encode(), headers=tuple(record.kafka_headers()))
    event = Fetched(ONE.topic, 0, 0, headers=tuple(EXAMPLES["usage-event"].kafka_headers()))
    at_work = bench(Partitions({ONE: [event, about]}, {ONE: [about]}), ListSink())
    await at_work.consumer._poll()
    await at_work.consumer._poll()

    assert at_work.sink.stored == [EXAMPLES["usage-event"]]
    assert at_work.partitions.commits == [{ONE: 2}, {ONE: 2}]


@pytest.mark.parametrize(
    ("topic", "headers"),
    [
        (NAMES.usage, ()),
        (NAMES.usage, (("schema", b"usage-event"),)),
        (NAMES.usage, (("schema", b"whatever"),)),
        (NAMES.responses, ()),
        (NAMES.evaluations, ()),
    ],
)
async def test_what_is_no_record_of_its_topic_is_set_aside(
    bench: MakeBench, topic: str, headers: tuple[tuple[str, bytes], ...]
) -> None:
    """Byte for byte, before anything is committed past it; its neighbours are stored."""
    junk = Fetched(topic, 0, 1, value=b'{"junk"', headers=headers)
    at_work = bench(Partitions({ONE: [Fetched(NAMES.usage, 0, 0), junk]}), ListSink())
    at_work.publisher.hold = True
    polling = asyncio.create_task(at_work.consumer._poll())
    while not at_work.publisher.pending:  # noqa: ASYNC110 (the double tells nobody)
        await asyncio.sleep(0)

    assert at_work.partitions.commits == []
    at_work.publisher.pending[0].set_result(None)
    await polling
    (letter,) = [each.record for each in at_work.publisher.written]
    assert isinstance(letter, DeadLetter)
    assert letter.value is not None
    assert letter.value.bytes() == junk.value
    assert letter.error.code == "internal_record_invalid"
    assert len(at_work.sink.stored) == 1
    assert at_work.partitions.commits == [{ONE: 2}]


@pytest.mark.parametrize("schema", ["budget-claim", "budget-settlement", "budget-release"])
async def test_what_is_for_the_budgets_is_theirs(bench: MakeBench, schema: str) -> None:
    """They set aside what they cannot read."""
    junk = Fetched(NAMES.usage, 0, 0, value=b"{", headers=(("schema", schema.encode()),))
    at_work = bench(Partitions({ONE: [junk]}), ListSink())
    await at_work.consumer._poll()

    assert at_work.publisher.written == []
    assert at_work.partitions.commits == [{ONE: 1}]
