"""Telling and hearing how the providers are doing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_doubles import RecordingPublisher, until
from pipeline_records import at

from millrace.schemas.errors import PipelineError
from millrace.schemas.provider_health import KeyAside, ProviderHealth, ProviderState, Resources
from millrace.streams.dead_letters import RawRecord
from millrace.streams.health_publisher import HealthPublisher
from millrace.streams.health_reader import HealthReader
from millrace.streams.health_view import HealthView
from millrace.streams.kafka_settings import KafkaSettings

TOPIC = "llm.provider-health"
ZERO = TopicPartition(TOPIC, 0)
STALE = 20.0


def health(
    provider: str = "p",
    model: str | None = "m",
    *,
    state: ProviderState = "closed",
    reporter: str = "r1",
    seconds: float = 0,
    **fields: Any,
) -> ProviderHealth:
    """A report made so many seconds after the start."""
    return ProviderHealth(
        provider=provider, model=model, state=state, reporter=reporter,
        since=at(0), reported_at=at(seconds), **fields,
    )  # fmt: skip


class Bench:
    """A view with a clock that a test sets."""

    def __init__(self, *reports: ProviderHealth) -> None:
        self.now = 1000.0
        self.view = HealthView(stale_seconds=STALE, now=lambda: self.now)
        for each in reports:
            self.view.take(each)


def test_what_nobody_speaks_of_is_usable() -> None:
    """A pipeline that has just started must route."""
    view = Bench().view

    assert view.usable("p", "m")
    assert view.penalty("p", "m") == 0
    assert (view.lag("p"), view.first_token_ms("p", "m"), view.in_flight("p")) == (None, None, 0)


def test_an_open_circuit_is_not_usable_until_it_probes() -> None:
    """Half-open ones get calls again, or nobody would find out."""
    bench = Bench(health(state="open"))
    assert not bench.view.usable("p", "m")
    assert bench.view.penalty("p", "m") == 1
    assert bench.view.usable("p", "other")

    bench.view.take(health(state="half_open", seconds=1))

    assert bench.view.usable("p", "m")
    assert bench.view.penalty("p", "m") == 0.5


def test_an_entry_that_cannot_be_called_takes_its_models_along() -> None:
    """All of them, and no other entry's."""
    view = Bench(health(model=None, state="open"), health(state="closed")).view

    assert not view.usable("p", "m")
    assert view.penalty("p", "m") == 1
    assert view.usable("q", "m")


def test_one_process_that_gets_through_is_enough() -> None:
    """A circuit is one process's experience; the penalty tells how many share it."""
    view = Bench(
        health(state="open", reporter="r1"),
        health(state="closed", reporter="r2"),
        health(state="closed", reporter="r3"),
        health(state="closed", reporter="r4"),
    ).view

    assert view.usable("p", "m")
    assert view.penalty("p", "m") == 0.25


def test_what_is_not_said_again_is_forgotten() -> None:
    """The process that said so is gone; whether the provider is well nobody knows."""
    bench = Bench(health(state="open"))
    bench.now += STALE
    assert not bench.view.usable("p", "m")

    bench.now += 0.1

    assert bench.view.usable("p", "m")
    assert bench.view.reports() == ()


def test_old_news_does_not_undo_newer() -> None:
    """Whatever the order of arrival; and what was said long ago is stale at once."""
    bench = Bench(health(state="open", seconds=5), health(state="closed", seconds=4))
    assert not bench.view.usable("p", "m")

    bench.view.take(health(provider="q", state="open"), age_seconds=STALE + 1)

    assert bench.view.usable("q", "m")


def test_a_deleted_key_is_forgotten() -> None:
    """Of that name only."""
    view = Bench(health(state="open"), health(model="n", state="open")).view
    view.forget("p", "m")

    assert (view.usable("p", "m"), view.usable("p", "n")) == (True, False)


def test_queues_and_calls_of_all_processes_add_up() -> None:
    """Each holds some of the partitions."""
    view = Bench(
        health(model=None, reporter="r1", lag=3, in_flight=2),
        health(model=None, reporter="r2", lag=4, in_flight=1),
        health(model=None, reporter="r3"),
    ).view

    assert (view.lag("p"), view.in_flight("p")) == (7, 3)


def test_the_latency_is_the_mean_of_those_who_measured_it() -> None:
    """One that made no call has none."""
    view = Bench(
        health(reporter="r1", first_token_ms=100.0),
        health(reporter="r2", first_token_ms=300.0),
        health(reporter="r3"),
    ).view

    assert view.first_token_ms("p", "m") == 200


@pytest.mark.parametrize(
    ("resources", "lag", "penalty"),
    [
        (Resources(), 9, 0.0),
        (Resources(cpu=0.8, gpu=0.5), 9, 0.0),
        (Resources(cpu=0.1, gpu_memory=0.95), 9, 0.75),
        (Resources(cpu=1.0, gpu=1.0, gpu_memory=1.0), 0, 0.0),
        (Resources(cpu=1.0), None, 0.0),
        (Resources(memory=1.0), 0, 1.0),
    ],
)
def test_a_machine_that_is_nearly_full_is_a_reason_to_go_elsewhere(
    resources: Resources, lag: int | None, penalty: float
) -> None:
    """So that work spills over to the cloud before the machine fails, and not while it copes."""
    view = Bench(health(model=None, resources=resources, lag=lag)).view

    assert view.usable("p", "m")
    assert view.penalty("p", "m") == pytest.approx(penalty)


def test_errors_are_a_reason_to_go_elsewhere() -> None:
    """Before the circuit opens; the fewer calls there were, the less it says."""
    assert Bench(health(error_rate=0.4, calls=15)).view.penalty("p", "m") == pytest.approx(0.3)
    assert Bench(health(error_rate=1.0, calls=1)).view.penalty("p", "m") < 0.2


def test_keys_that_some_process_set_aside_are_known() -> None:
    """Each named once."""
    key = KeyAside(alias="KEY_2", reason="authentication_failed", until=at(60))
    view = Bench(
        health(model=None, reporter="r1", keys_aside=(key,)),
        health(model=None, reporter="r2", keys_aside=(key,)),
    ).view

    assert view.keys_aside("p") == (key,)


@given(
    reports=st.lists(
        st.tuples(
            st.sampled_from((None, "m")),
            st.sampled_from(("r1", "r2")),
            st.sampled_from(("closed", "open", "half_open")),
            st.integers(0, 30),
            st.floats(0, 1),
        ),
        max_size=12,
    ),
    later=st.floats(0, 30),
)
@settings(max_examples=100, deadline=None)
def test_nothing_that_is_not_usable_has_less_than_the_whole_penalty(
    reports: list[tuple[str | None, str, ProviderState, int, float]], later: float
) -> None:
    """For any reports; and the penalty is from 0 to 1."""
    bench = Bench()
    for model, reporter, state, seconds, rate in reports:
        each = health(model=model, reporter=reporter, state=state, seconds=seconds, error_rate=rate)
        bench.view.take(each, age_seconds=30 - seconds)
    bench.now += later
    penalty = bench.view.penalty("p", "m")

    assert 0 <= penalty <= 1
    assert bench.view.usable("p", "m") or penalty == 1


def test_the_key_names_provider_and_model() -> None:
    """Models may have a slash in their names, entries may not."""
    keys = [each.key for each in (health(), health(model=None), health(model="meta/llama"))]

    assert keys == ["p/m", "p", "p/meta/llama"]


@dataclass
class Telling:
    """A process that tells what `reports` holds."""

    reports: list[ProviderHealth]
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)

    @asynccontextmanager
    async def running(self, *, interval: float) -> AsyncIterator[HealthPublisher]:
        """Run until the end of the block."""
        publisher = HealthPublisher(
            publisher=self.publisher,  # type: ignore[arg-type]
            topic=TOPIC,
            read=lambda: self.reports,
            interval_seconds=interval,
        )
        task = asyncio.create_task(publisher.run())
        try:
            yield publisher
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @property
    def told(self) -> list[tuple[bytes | None, str]]:
        """Keys and states, in order."""
        return [
            (each.key, each.record.state)
            for each in self.publisher.written
            if isinstance(each.record, ProviderHealth)
        ]


async def test_everything_is_told_at_start_and_again_regularly() -> None:
    """Under the keys that the topic is compacted by."""
    telling = Telling([health(), health(model=None)])
    async with telling.running(interval=0.001):
        await until(lambda: len(telling.told) >= 6)

    assert telling.told[:4] == [(b"p/m", "closed"), (b"p", "closed")] * 2
    assert {each.topic for each in telling.publisher.written} == {TOPIC}


async def test_a_change_is_told_at_once_and_alone() -> None:
    """Long before the next round."""
    telling = Telling([health(), health(model="n")])
    async with telling.running(interval=3600) as publisher:
        await until(lambda: len(telling.told) == 2)
        telling.reports[1] = health(model="n", state="open")
        publisher.changed()
        await until(lambda: len(telling.told) == 3)
        key = KeyAside(alias="K", reason="authentication_failed", until=at(60))
        telling.reports.append(health(model=None, keys_aside=(key,)))
        publisher.changed()
        await until(lambda: len(telling.told) == 4)

    assert telling.told[2:] == [(b"p/n", "open"), (b"p", "closed")]


async def test_a_change_of_figures_alone_waits_for_the_next_round() -> None:
    """Latencies change with each call."""
    telling = Telling([health()])
    async with telling.running(interval=3600) as publisher:
        await until(lambda: len(telling.told) == 1)
        telling.reports[0] = health(error_rate=0.1, first_token_ms=5.0)
        publisher.changed()
        await until(lambda: not publisher._changed.is_set())
        telling.reports[0] = health(state="open")
        publisher.changed()
        await until(lambda: len(telling.told) == 2)

    assert telling.told[1] == (b"p/m", "open")


async def test_a_flapping_circuit_does_not_flood_the_topic() -> None:
    """What changes while a report is on its way is told once it has arrived, as it is then."""
    telling = Telling([health()], RecordingPublisher(hold=True))
    async with telling.running(interval=3600) as publisher:
        await until(lambda: len(telling.told) == 1)
        for turn in range(101):
            telling.reports[0] = health(state="closed" if turn % 2 else "open")
            publisher.changed()
            await asyncio.sleep(0)
        assert len(telling.told) == 1
        telling.publisher.acknowledge()
        await until(lambda: len(telling.told) == 2)

    assert telling.told[1] == (b"p/m", "open")


class TopicConsumer:
    """The part of aiokafka's consumer that the reader uses, over a list of records."""

    def __init__(self, records: list[ConsumerRecord[Any, Any]], backlog: int) -> None:
        self.records = records
        self.backlog = backlog
        self.at = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assignment(self) -> set[TopicPartition]:
        return {ZERO}

    async def end_offsets(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.backlog)

    async def position(self, partition: TopicPartition) -> int:
        assert partition == ZERO
        return self.at

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[ConsumerRecord[Any, Any]]]:
        await asyncio.sleep(0)
        found = self.records[self.at :]
        self.at += len(found)
        return {ZERO: found} if found else {}


@dataclass
class Hearing:
    """A router that hears what is on the topic; the wall clock says 100 s after the start."""

    bench: Bench = field(default_factory=Bench)
    records: list[ConsumerRecord[Any, Any]] = field(default_factory=list)
    set_aside: list[tuple[int, str]] = field(default_factory=list)
    backlog: int = 0
    reader: HealthReader = field(init=False)

    def write(self, value: bytes | None, *, key: bytes = b"p/m", seconds: float = 95) -> None:
        """Append a record, written so long after the start."""
        millis = round(at(seconds).timestamp() * 1000)
        self.records.append(
            ConsumerRecord(
                TOPIC, 0, len(self.records), millis, 0, key, value, None, len(key),
                len(value or b""), (),
            )
        )  # fmt: skip

    async def _set_aside(
        self, source: RawRecord, error: PipelineError, **_: Any
    ) -> "asyncio.Future[Any]":
        self.set_aside.append((source.offset, error.code))
        return asyncio.get_running_loop().create_future()

    def _new_consumer(self, *topics: str, **kwargs: Any) -> TopicConsumer:
        assert topics == (TOPIC,)
        assert "group_id" not in kwargs
        assert kwargs["auto_offset_reset"] == "earliest"
        return TopicConsumer(self.records, self.backlog)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run from when the backlog has been read until the end of the block."""
        self.backlog = len(self.records)
        self.reader = HealthReader(
            topic=TOPIC,
            view=self.bench.view,
            kafka=KafkaSettings(bootstrap_servers=("localhost:1",)),
            set_aside=self._set_aside,
            clock=lambda: at(100),
            new_consumer=self._new_consumer,
        )
        task = asyncio.create_task(self.reader.run())
        try:
            await until(self.reader.caught_up.is_set)
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_a_router_that_starts_knows_what_was_said_before() -> None:
    """As old as it is: what was said too long ago is not believed."""
    hearing = Hearing()
    hearing.write(health(state="open", seconds=95).encode(), seconds=95)
    hearing.write(health(model="n", state="open", seconds=70).encode(), seconds=70)
    async with hearing.running():
        view = hearing.bench.view
        assert (view.usable("p", "m"), view.usable("p", "n")) == (False, True)
        hearing.bench.now += 15.5

        assert view.usable("p", "m")


async def test_what_is_heard_live_is_new_whatever_the_clocks_say() -> None:
    """The other machine's clock may be minutes behind."""
    hearing = Hearing()
    async with hearing.running():
        hearing.write(health(state="open").encode(), seconds=-500)
        await until(lambda: not hearing.bench.view.usable("p", "m"))


async def test_a_tombstone_takes_a_report_back() -> None:
    """An entry that was taken out of the config."""
    hearing = Hearing()
    hearing.write(health(model="a/b", state="open", seconds=95).encode(), key=b"p/a/b")
    async with hearing.running():
        assert not hearing.bench.view.usable("p", "a/b")
        hearing.write(None, key=b"p/a/b")
        await until(lambda: hearing.bench.view.usable("p", "a/b"))


async def test_what_is_no_report_is_set_aside_once_and_passed_over() -> None:
    """By those who hear it live; those who start later pass over it."""
    hearing = Hearing()
    hearing.write(b"{")
    async with hearing.running():
        assert hearing.set_aside == []
        hearing.write(b"[]")
        hearing.write(health(state="open", seconds=99).encode(), seconds=99)
        await until(lambda: not hearing.bench.view.usable("p", "m"))

    assert hearing.set_aside == [(1, "invalid_request")]
