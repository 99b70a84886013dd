"""What the pipeline expects of any broker, held against the embedded and the real one."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import MessageSizeTooLargeError
from broker_under_test import BrokerUnderTest

WAIT_SECONDS = 30


def consumer(broker: BrokerUnderTest, *topics: str, **kwargs: Any) -> AIOKafkaConsumer:
    """A consumer as the pipeline makes them, from the beginning."""
    settings = broker.settings.consumer_kwargs() | {"auto_offset_reset": "earliest"} | kwargs
    return AIOKafkaConsumer(*topics, **settings)


def producer(broker: BrokerUnderTest, **kwargs: Any) -> AIOKafkaProducer:
    """A producer as the pipeline makes them."""
    return AIOKafkaProducer(**(broker.settings.producer_kwargs() | kwargs))


async def take(source: AIOKafkaConsumer, count: int) -> list[ConsumerRecord]:
    """The next records."""
    async with asyncio.timeout(WAIT_SECONDS):
        return [await source.getone() for _ in range(count)]


async def until_assigned(members: dict[AIOKafkaConsumer, int]) -> None:
    """Return once each member holds as many partitions as it should."""
    async with asyncio.timeout(WAIT_SECONDS):
        while any(len(member.assignment()) != count for member, count in members.items()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_record_comes_back_whole(broker: BrokerUnderTest) -> None:
    """Key, value, headers, their order, and the time stamp are what was sent."""
    topic = await broker.create_topic("whole")
    headers = [("schema", b"request"), ("schema-version", b"1"), ("schema", b"\x00\xff")]
    async with producer(broker) as source:
        await source.send_and_wait(
            topic, "größer".encode(), key=b"k", headers=headers, timestamp_ms=1_700_000_000_123
        )
        await source.send_and_wait(topic, None, key=b"tombstone")

    async with consumer(broker, topic, group_id=None) as reader:
        first, second = await take(reader, 2)

    assert (first.key, first.value) == (b"k", "größer".encode())
    assert list(first.headers) == headers
    assert first.timestamp == 1_700_000_000_123
    assert (second.key, second.value, second.offset) == (b"tombstone", None, 1)


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_taken(broker: BrokerUnderTest, compression: str | None) -> None:
    """A compressed batch comes back as it was."""
    topic = await broker.create_topic("compressed")
    async with producer(broker, compression_type=compression) as source:
        await source.send_and_wait(topic, b"a" * 5000)

    async with consumer(broker, topic, group_id=None) as reader:
        (record,) = await take(reader, 1)

    assert record.value == b"a" * 5000


async def test_a_key_stays_in_its_partition_in_order(broker: BrokerUnderTest) -> None:
    """Records of one key have one partition and rising offsets."""
    topic = await broker.create_topic("ordered", partitions=4)
    async with producer(broker) as source:
        sent = [
            await source.send(topic, str(turn).encode(), key=str(key).encode())
            for turn in range(20)
            for key in range(8)
        ]
        await asyncio.gather(*sent)

    async with consumer(broker, topic, group_id=None) as reader:
        records = await take(reader, 160)

    for key in range(8):
        mine = [record for record in records if record.key == str(key).encode()]
        assert len({record.partition for record in mine}) == 1
        assert [int(record.value) for record in mine] == list(range(20))


async def test_a_waiting_consumer_gets_a_record_soon(broker: BrokerUnderTest) -> None:
    """A record does not wait for the end of a fetch that found nothing."""
    topic = await broker.create_topic("soon")
    async with (
        producer(broker) as source,
        consumer(broker, topic, group_id=None, fetch_max_wait_ms=20_000) as reader,
    ):
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(take(reader, 1))
        await source.partitions_for(topic)
        started = loop.time()
        await source.send_and_wait(topic, b"now")
        await waiting

        assert loop.time() - started < 10


async def test_a_group_goes_on_from_what_it_committed(broker: BrokerUnderTest) -> None:
    """A new member begins at the committed offset, and is told what was noted there."""
    topic = await broker.create_topic("resumed")
    partition = TopicPartition(topic, 0)
    async with producer(broker) as source:
        for number in range(10):
            await source.send_and_wait(topic, str(number).encode())

    async with consumer(broker, topic, group_id=broker.topic("group")) as first:
        await take(first, 8)
        await first.commit({partition: (5, "7 is done")})
    async with consumer(broker, topic, group_id=broker.topic("group")) as second:
        committed = await second.committed(partition)
        records = await take(second, 5)
    admin = AIOKafkaAdminClient(**broker.settings.client_kwargs())
    await admin.start()
    try:
        noted = await admin.list_consumer_group_offsets(
            broker.topic("group"), partitions=[partition]
        )
    finally:
        await admin.close()

    assert committed == 5
    assert noted[partition] == (5, "7 is done")
    assert [int(record.value) for record in records] == [5, 6, 7, 8, 9]


async def test_two_members_share_partitions(broker: BrokerUnderTest) -> None:
    """Each partition has one member; when one leaves, the other takes over, and nothing is lost."""
    topic = await broker.create_topic("shared", partitions=4)
    group = broker.topic("group")
    async with producer(broker) as source, consumer(broker, topic, group_id=group) as stays:
        await until_assigned({stays: 4})
        async with consumer(broker, topic, group_id=group) as leaves:
            await until_assigned({stays: 2, leaves: 2})
            assert not stays.assignment() & leaves.assignment()
            for number in range(4):
                await source.send_and_wait(topic, str(number).encode(), partition=number)
            mine, others = await asyncio.gather(take(stays, 2), take(leaves, 2))
            await asyncio.gather(stays.commit(), leaves.commit())
        await until_assigned({stays: 4})
        for number in range(4):
            await source.send_and_wait(topic, str(4 + number).encode(), partition=number)
        after = await take(stays, 4)

    assert sorted(int(record.value) for record in mine + others) == [0, 1, 2, 3]
    assert sorted(int(record.value) for record in after) == [4, 5, 6, 7]


async def test_three_members_that_come_at_once_all_get_work(broker: BrokerUnderTest) -> None:
    """A group forms whoever of its members is heard first."""
    topic = await broker.create_topic("crowd", partitions=6)
    members = [consumer(broker, topic, group_id=broker.topic("crowd")) for _ in range(3)]
    try:
        await asyncio.gather(*(member.start() for member in members))
        await until_assigned(dict.fromkeys(members, 2))

        held = [partition for member in members for partition in member.assignment()]
        assert len(set(held)) == len(held) == 6
    finally:
        await asyncio.gather(*(member.stop() for member in members))


async def test_the_ends_of_a_partition_are_known(broker: BrokerUnderTest) -> None:
    """Beginning and end offsets tell how much there is, which is what lag is made of."""
    topic = await broker.create_topic("ends")
    partition = TopicPartition(topic, 0)
    async with producer(broker) as source:
        await source.send_and_wait(topic, b"one")
        await source.send_and_wait(topic, b"two")

    async with consumer(broker, group_id=None) as reader:
        beginning = await reader.beginning_offsets([partition])
        end = await reader.end_offsets([partition])

    assert (beginning[partition], end[partition]) == (0, 2)


async def test_a_record_too_large_for_the_producer_is_refused(broker: BrokerUnderTest) -> None:
    """The refusal comes at once, and the producer goes on."""
    topic = await broker.create_topic("large")
    limit = broker.settings.max_record_bytes
    async with producer(broker) as source:
        with pytest.raises(MessageSizeTooLargeError):
            await source.send_and_wait(topic, b"x" * (limit + 1))
        sent = await source.send_and_wait(topic, b"small")

    assert sent.offset == 0


async def test_a_large_record_within_the_limit_passes(broker: BrokerUnderTest) -> None:
    """It is larger than a fetch asks for, and is delivered nevertheless."""
    limit = broker.settings.max_record_bytes
    topic = await broker.create_topic("within", max_message_bytes=limit)
    value = bytes(range(256)) * ((limit - 1000) // 256)
    async with producer(broker) as source:
        await source.send_and_wait(topic, value)

    async with consumer(broker, topic, group_id=None) as reader:
        (record,) = await take(reader, 1)

    assert record.value == value


async def test_a_producer_that_wants_no_acknowledgement_gets_none(broker: BrokerUnderTest) -> None:
    """Records arrive, and the connection serves further requests."""
    topic = await broker.create_topic("unacknowledged")
    async with producer(broker, acks=0, enable_idempotence=False) as source:
        for number in range(5):
            await source.send_and_wait(topic, str(number).encode())

    async with consumer(broker, topic, group_id=None) as reader:
        records = await take(reader, 5)

    assert [int(record.value) for record in records] == [0, 1, 2, 3, 4]
