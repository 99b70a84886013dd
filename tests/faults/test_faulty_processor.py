"""A fault of ours in a processor: Faust would acknowledge the event and drop it."""

from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from broker_under_test import BrokerUnderTest
from pipeline_under_test import client_producer, eventually, read_topic

from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.errors import PipelineError
from millrace.streams.dead_letters import DeadLetters, RawRecord
from millrace.streams.publisher import Publisher
from millrace.streams.stream_app import Outputs, StreamApp

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

VALUES = [b"good 0", b"raises", b"good 1", b"after a write", b"good 2"]


async def test_an_event_whose_processor_raises_is_one_dead_letter(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """At the beginning, or after it has written already; its neighbours are processed."""
    source = await real_broker.create_topic("source")
    target = await real_broker.create_topic("target")
    letters = await real_broker.create_topic("letters")
    group = real_broker.topic("group")
    failures: list[PipelineError] = []
    settings = real_broker.settings
    async with client_producer(real_broker) as client:
        for value in VALUES:
            await client.send_and_wait(source, value, key=b"k")
    async with Publisher(settings=settings, on_failure=failures.append) as publisher:

        async def process(record: RawRecord, outputs: Outputs) -> None:
            if record.value == b"raises":
                raise RuntimeError("a fault of ours")
            outputs.deliveries.append(
                await publisher.publish_bytes(target, record.value, key=record.key)
            )
            if record.value == b"after a write":
                raise RuntimeError("a fault of ours")

        app = StreamApp(
            app_id=group,
            topic=source,
            partitions=1,
            kafka=settings,
            table_publisher=publisher,
            set_aside=DeadLetters(publisher=publisher, topic=letters),
            on_failure=failures.append,
            folder=tmp_path,
        )
        app.run_processor("faulty", process)
        await app.start()
        try:
            await eventually(lambda: committed(real_broker, group), "all of it to be committed")
        finally:
            await app.stop()

    dead = [DeadLetter.decode(each.value, ()) for each in await read_topic(real_broker, letters)]
    written = [each.value for each in await read_topic(real_broker, target)]
    assert [each.value and each.value.bytes() for each in dead] == [b"raises", b"after a write"]
    assert {each.error.code for each in dead} == {"internal_error"}
    assert written == [b"good 0", b"good 1", b"after a write", b"good 2"]
    assert failures == []


async def committed(broker: BrokerUnderTest, group: str) -> bool:
    """Whether the group has committed past the last record."""
    admin: Any = AIOKafkaAdminClient(**broker.settings.client_kwargs())
    await admin.start()
    try:
        commits = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return sum(each.offset for each in commits.values()) == len(VALUES)
