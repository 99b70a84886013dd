"""The publisher's short way into a producer's batches, held against a broker."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.partitioner import DefaultPartitioner
from broker_under_test import BrokerUnderTest
from kafka_process import KafkaProcess
from pipeline_doubles import until
from structlog.testing import capture_logs

from millrace.schemas.errors import BrokerError, PipelineError
from millrace.streams.deliveries import all_delivered
from millrace.streams.existing_topics import ExistingTopics
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.kafka_topic_admin import KafkaTopicAdmin
from millrace.streams.publisher import Publisher

KEYS = 8
TURNS = 40
HEADERS = (("schema", b"x"), ("schema-version", b"1"))


async def test_records_lie_where_their_deliveries_say(broker: BrokerUnderTest) -> None:
    """In order within a key, in the partition that any client chooses, whole."""
    topic = await broker.create_topic("short-way", partitions=4)
    sent = []
    async with Publisher(settings=broker.settings) as publisher:
        for turn in range(TURNS):
            for key in range(KEYS):
                value = f"{key}/{turn}".encode()
                delivery = await publisher.publish_bytes(
                    topic, value, key=b"k%d" % key, headers=HEADERS
                )
                sent.append((value, delivery))
        places = {value: await delivery for value, delivery in sent}
        await all_delivered(delivery for _, delivery in sent)
    reader = AIOKafkaConsumer(
        topic, **broker.settings.consumer_kwargs(), auto_offset_reset="earliest"
    )
    async with reader, asyncio.timeout(30):
        records = [await reader.getone() for _ in range(KEYS * TURNS)]

    for record in records:
        place = places[record.value]
        assert (place.topic, place.partition, place.offset) == (
            topic,
            record.partition,
            record.offset,
        )
        assert record.partition == DefaultPartitioner()(record.key, range(4), range(4))
        assert tuple(record.headers) == HEADERS
    for key in range(KEYS):
        mine = [record.value for record in records if record.key == b"k%d" % key]
        assert mine == [f"{key}/{turn}".encode() for turn in range(TURNS)]


async def test_more_than_a_batch_holds_waits_for_room(broker: BrokerUnderTest) -> None:
    """A full batch goes out, and what did not fit follows."""
    topic = await broker.create_topic("full-batches")
    value = b"v" * 100_000
    async with Publisher(settings=broker.settings) as publisher:
        deliveries = [
            await publisher.publish_bytes(topic, value, key=b"k", partition=0) for _ in range(12)
        ]
        places = [await each for each in deliveries]

    assert list(range(12)) == [each.offset for each in places]


async def test_a_record_that_is_too_large_harms_no_other(broker: BrokerUnderTest) -> None:
    """It is refused at once, with its size; the publisher goes on."""
    topic = await broker.create_topic("too-large")
    failures: list[PipelineError] = []
    async with Publisher(settings=broker.settings, on_failure=failures.append) as publisher:
        before = await publisher.publish_bytes(topic, b"before", key=b"k")
        with pytest.raises(BrokerError, match="over the limit") as refused:
            await publisher.publish_bytes(
                topic, b"v" * (broker.settings.max_record_bytes + 1), key=b"k"
            )
        after = await publisher.publish_bytes(topic, b"after", key=b"k")
        await all_delivered([before, after])

    assert refused.value.code == "too_large"
    assert failures == []


@pytest.mark.kafka
async def test_the_first_record_for_a_topic_waits_as_long_as_the_broker_is_away(
    kafka_process: KafkaProcess,
) -> None:
    """As all others do: the producer alone would give up, not knowing the topic's partitions."""
    settings = KafkaSettings(
        bootstrap_servers=(kafka_process.bootstrap_servers,),
        heartbeat_interval_seconds=0.3,
        session_timeout_seconds=1.0,
        request_timeout_seconds=1.0,
    )
    failures: list[PipelineError] = []
    async with (
        KafkaTopicAdmin(client_kwargs=settings.client_kwargs()) as admin,
        Publisher(
            settings=settings, on_failure=failures.append, existing=ExistingTopics(admin=admin)
        ) as publisher,
    ):
        # A producer knows of all topics that there are at its start.
        topic = await BrokerUnderTest(settings, None).create_topic("first")
        with capture_logs() as logs:
            kafka_process.freeze()
            sending = asyncio.create_task(publisher.publish_bytes(topic, b"v", key=b"k"))
            await until(lambda: "topic.unheard_of" in {log["event"] for log in logs}, seconds=90)
            kafka_process.thaw()
            async with asyncio.timeout(60):
                place = await (await sending)

    assert (place.topic, place.offset) == (topic, 0)
    assert failures == []


async def test_after_the_end_nothing_is_taken(broker: BrokerUnderTest) -> None:
    """A record that would never be sent is refused."""
    topic = await broker.create_topic("closed")
    async with Publisher(settings=broker.settings) as publisher:
        await (await publisher.publish_bytes(topic, b"in time", key=b"k"))

    with pytest.raises(BrokerError):
        await publisher.publish_bytes(topic, b"too late", key=b"k")


async def test_a_batch_is_no_larger_than_a_topic_takes(broker: BrokerUnderTest) -> None:
    """Where the operator has lowered the limit, many small records still pass."""
    topic = await broker.create_topic("small-batches", max_message_bytes=4_000)
    settings = broker.settings.model_copy(update={"max_request_bytes": 4_000})
    async with Publisher(settings=settings) as publisher:
        deliveries = [await publisher.publish_bytes(topic, b"v" * 500, key=b"k") for _ in range(50)]
        places = [await each for each in deliveries]

    assert list(range(50)) == [each.offset for each in places]
