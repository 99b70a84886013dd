"""Kafka that freezes or dies under load, and a store that is away for a while."""

import asyncio
from pathlib import Path
from typing import Protocol

import pytest
from broker_under_test import BrokerUnderTest
from kafka_process import KafkaProcess
from pipeline_books import open_books, the_books_are_right
from pipeline_lag import all_is_committed, lag
from pipeline_under_test import Pipeline, whole_pipeline

from millrace.streams.roles import ALL_ROLES
from millrace.streams.topics import TopicNames


class Store(Protocol):
    """A ClickHouse that can be frozen, or whose disk can be filled."""

    url: str

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def fill_disk(self) -> None: ...

    def free_disk(self) -> None: ...


pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def load(pipeline: Pipeline, number: int) -> list[str]:
    """Requests that stream for a while; returns once half of them are being answered."""
    simulate = "latency=300 tokens=60 pace=30"
    asking = [pipeline.ask("load", simulate=simulate, stream=True) for _ in range(number)]
    asked = await asyncio.gather(*asking)
    # Not how many are open at once: on a slow machine the first end before the last begin.
    await pipeline.simulator.ledger.until(
        lambda _: 2 * sum(bool(pipeline.paid(each)) for each in asked) >= number
    )
    return asked


async def all_end_well(pipeline: Pipeline, asked: list[str]) -> None:
    """Each once, with a gapless stream, paid once and in the books."""
    for request_id in asked:
        response = await pipeline.topics.response(request_id, seconds=60)
        assert response.status == "completed"
        chunks = await pipeline.topics.stream(request_id)
        assert [each.sequence for each in chunks] == list(range(len(chunks)))
        assert "".join(each.delta for each in chunks) == response.text
    assert {len(pipeline.topics.responses[each]) for each in asked} == {1}
    async with open_books(pipeline) as reader:
        await the_books_are_right(pipeline, reader)


@pytest.mark.timeout(240)
async def test_a_broker_that_freezes_and_one_that_dies_lose_nothing(
    own_broker: BrokerUnderTest, kafka_process: KafkaProcess, tmp_path: Path
) -> None:
    """The pipeline waits for it and goes on, in the same process: it reads, and it commits."""
    async with whole_pipeline(own_broker, tmp_path, roles=ALL_ROLES) as pipeline:
        asked = await load(pipeline, 20)
        kafka_process.freeze()
        await pipeline.simulator.ledger.until(lambda ledger: not ledger.totals().open)
        kafka_process.thaw()
        await all_end_well(pipeline, asked)
        await all_is_committed(pipeline)

        asked = await load(pipeline, 20)
        kafka_process.kill()
        await asyncio.to_thread(kafka_process.start)
        await all_end_well(pipeline, asked)
        await all_is_committed(pipeline)


async def test_a_store_that_is_away_holds_nothing_up_and_misses_nothing(
    real_broker: BrokerUnderTest, tmp_path: Path, store: Store
) -> None:
    """Requests go on ending; what waited is stored when it is back, each row once."""
    clickhouse = {"url": store.url, "batch_seconds": 0.2, "request_timeout_seconds": 1}
    async with whole_pipeline(
        real_broker, tmp_path, roles=ALL_ROLES, clickhouse=clickhouse
    ) as pipeline:
        first = await pipeline.ask("before", stream=True)
        await pipeline.topics.response(first)
        store.freeze()
        asked = [await pipeline.ask("meanwhile", stream=True) for _ in range(50)]
        for request_id in asked:
            assert (await pipeline.topics.response(request_id)).status == "completed"
        sink = pipeline.running.sink
        assert sink is not None
        stored = sink.stored
        store.thaw()

        await all_end_well(pipeline, [first, *asked])
        assert sink.stored > stored


async def test_a_store_whose_disk_is_full_holds_nothing_up_and_misses_nothing(
    real_broker: BrokerUnderTest, tmp_path: Path, store_on_a_small_disk: Store
) -> None:
    """A server's real disk: what comes meanwhile waits uncommitted, and is stored afterwards."""
    store = store_on_a_small_disk
    clickhouse = {"url": store.url, "batch_seconds": 0.2}
    async with whole_pipeline(
        real_broker, tmp_path, roles=ALL_ROLES, clickhouse=clickhouse
    ) as pipeline:
        first = [await pipeline.ask("before", stream=True) for _ in range(20)]
        await all_end_well(pipeline, first)
        await all_is_committed(pipeline)
        sink = pipeline.running.sink
        assert sink is not None
        stored = sink.stored
        store.fill_disk()
        asked = [await pipeline.ask("meanwhile", stream=True) for _ in range(50)]
        for request_id in asked:
            assert (await pipeline.topics.response(request_id)).status == "completed"
        usage = TopicNames(pipeline.settings.kafka.topic_prefix).usage
        assert await lag(pipeline, "sink", usage) >= len(asked)
        assert sink.stored == stored
        store.free_disk()

        await all_end_well(pipeline, [*first, *asked])
        await all_is_committed(pipeline)
