"""What only a real Apache Kafka does."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from broker_under_test import BrokerUnderTest
from kafka_process import KafkaProcess

from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.kafka_topic_admin import KafkaTopicAdmin
from millrace.streams.topic_admin import create_missing
from millrace.streams.topics import TopicSpec

pytestmark = pytest.mark.kafka


async def test_offsets_are_found_by_time(real_broker: BrokerUnderTest) -> None:
    """The first record at or after a moment is found; after the last there is none."""
    topic = await real_broker.create_topic("timed")
    partition = TopicPartition(topic, 0)
    async with AIOKafkaProducer(**real_broker.settings.producer_kwargs()) as source:
        for moment in (1000, 2000, 3000):
            await source.send_and_wait(topic, b"x", timestamp_ms=1_700_000_000_000 + moment)

    async with AIOKafkaConsumer(**real_broker.settings.consumer_kwargs()) as reader:
        found = await reader.offsets_for_times({partition: 1_700_000_001_500})
        none = await reader.offsets_for_times({partition: 1_700_000_009_000})

    assert found[partition].offset == 1
    assert none[partition] is None


async def test_the_topic_refuses_what_is_larger_than_its_limit(
    real_broker: BrokerUnderTest,
) -> None:
    """A record under the producer's limit but over the topic's is refused by the broker."""
    topic = await real_broker.create_topic("limited", max_message_bytes=20_000)
    kwargs = real_broker.settings.producer_kwargs() | {"compression_type": None}
    async with AIOKafkaProducer(**kwargs) as source:
        with pytest.raises(MessageSizeTooLargeError):
            await source.send_and_wait(topic, b"x" * 30_000)


async def test_a_changelog_is_compacted_and_others_are_kept_for_a_time(
    real_broker: BrokerUnderTest,
) -> None:
    """Cleanup policy, retention and size limit are the topic's own."""
    common = {
        "key": "k",
        "holds": "h",
        "schemas": (),
        "partitions": 1,
        "replication_factor": 1,
        "max_message_bytes": 123_456,
    }
    specs = [
        TopicSpec(name=real_broker.topic("state"), cleanup="compact", retention_ms=None, **common),
        TopicSpec(
            name=real_broker.topic("events"), cleanup="delete", retention_ms=60_000, **common
        ),
    ]
    await real_broker.create(specs)

    async with real_broker.topic_admin() as admin:
        configs = await admin.configs([spec.name for spec in specs])

    state, events = (configs[spec.name] for spec in specs)
    assert state["cleanup.policy"] == "compact"
    assert (events["cleanup.policy"], events["retention.ms"]) == ("delete", "60000")
    assert state["max.message.bytes"] == events["max.message.bytes"] == "123456"


async def test_data_outlives_a_killed_broker(kafka_process: KafkaProcess) -> None:
    """After SIGKILL and a start on the same folder, acknowledged records are there."""
    settings = KafkaSettings(bootstrap_servers=kafka_process.bootstrap_servers)
    spec = TopicSpec(
        name="kept",
        key="k",
        holds="h",
        schemas=(),
        partitions=1,
        replication_factor=None,
        cleanup="delete",
        retention_ms=3_600_000,
        max_message_bytes=1_048_576,
    )
    async with KafkaTopicAdmin(client_kwargs=settings.client_kwargs()) as admin:
        await create_missing(admin, [spec])
    async with AIOKafkaProducer(**settings.producer_kwargs()) as source:
        await source.send_and_wait("kept", b"before")

    await asyncio.to_thread(kafka_process.kill)
    await asyncio.to_thread(kafka_process.start)

    async with (
        AIOKafkaConsumer(
            "kept", auto_offset_reset="earliest", **settings.consumer_kwargs()
        ) as reader,
        asyncio.timeout(30),
    ):
        assert (await reader.getone()).value == b"before"
