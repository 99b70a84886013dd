"""Faust on the event loop of the pipeline, held against a broker."""

import threading
from pathlib import Path

from aiokafka import AIOKafkaProducer
from broker_under_test import BrokerUnderTest
from pipeline_doubles import until

from millrace.schemas.errors import PipelineError
from millrace.streams.dead_letters import DeadLetters, RawRecord
from millrace.streams.publisher import Publisher
from millrace.streams.stream_app import Outputs, StreamApp

PARTITIONS = 2


async def test_an_app_reads_commits_and_stops_without_a_thread(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """And a second one of its group goes on from what the first has committed."""
    topic = await broker.create_topic("threadless", partitions=PARTITIONS)
    group = broker.topic("group")
    seen: list[bytes | None] = []
    failures: list[PipelineError] = []

    async def process(source: RawRecord, _: Outputs) -> None:
        seen.append(source.value)

    async def read(values: set[bytes]) -> None:
        app = StreamApp(
            app_id=group,
            topic=topic,
            partitions=PARTITIONS,
            kafka=broker.settings,
            table_publisher=publisher,
            set_aside=DeadLetters(publisher=publisher, topic=topic),
            on_failure=failures.append,
            folder=tmp_path,
        )
        app.run_processor("threadless", process)
        threads = threading.active_count()
        await app.start()
        await until(lambda: values <= set(seen), seconds=30)
        assert threading.active_count() == threads
        await app.stop()

    async with (
        Publisher(settings=broker.settings) as publisher,
        AIOKafkaProducer(**broker.settings.producer_kwargs()) as source,
    ):
        for value in (b"1", b"2", b"3"):
            await source.send_and_wait(topic, value)
        await read({b"1", b"2", b"3"})
        await source.send_and_wait(topic, b"4")
        await read({b"4"})

    assert sorted(seen, key=str) == [b"1", b"2", b"3", b"4"]
    assert failures == []
