"""An app of Faust's that can be left, whatever it waits for, held against a broker."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from broker_under_test import BrokerUnderTest
from pipeline_doubles import until
from structlog.testing import capture_logs

from millrace.schemas.errors import PipelineError
from millrace.streams.dead_letters import DeadLetters, RawRecord
from millrace.streams.publisher import Publisher
from millrace.streams.stream_app import Outputs, StreamApp


async def test_an_app_that_waits_for_an_acknowledgement_is_left(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """What nobody has acknowledged stays uncommitted, and is the next one's."""
    topic = await broker.create_topic("waiting")
    seen: list[bytes | None] = []
    failures: list[PipelineError] = []
    never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def process(source: RawRecord, outputs: Outputs) -> None:
        seen.append(source.value)
        outputs.deliveries.append(never)

    async def read(publisher: Publisher) -> StreamApp:
        app = StreamApp(
            app_id=broker.topic("group"),
            topic=topic,
            partitions=1,
            kafka=broker.settings,
            table_publisher=publisher,
            set_aside=DeadLetters(publisher=publisher, topic=topic),
            on_failure=failures.append,
            folder=tmp_path,
        )
        app.run_processor("waiting", process)
        before = len(seen)
        await app.start()
        await until(lambda: len(seen) > before, seconds=30)
        return app

    async with (
        Publisher(settings=broker.settings) as publisher,
        AIOKafkaProducer(**broker.settings.producer_kwargs()) as source,
    ):
        await source.send_and_wait(topic, b"1")
        with capture_logs() as logs:
            app = await read(publisher)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await app.stop()
            await app.abandon()
            await (await read(publisher)).abandon()

    assert seen == [b"1", b"1"]
    assert "stop.incomplete" not in [each["event"] for each in logs]
    assert failures == []
