"""Who may commit for a group, held against a broker."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError
from broker_under_test import BrokerUnderTest

from millrace.streams.member_commits import let_only_members_commit


class Slow(ConsumerRebalanceListener):  # type: ignore[misc]
    """Gives its partitions up when a test lets it."""

    def __init__(self) -> None:
        self.assigned = asyncio.Event()
        self.giving_up = asyncio.Event()
        self.given_up = asyncio.Event()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        if revoked:
            self.giving_up.set()
            await self.given_up.wait()

    async def on_partitions_assigned(self, _: Any) -> None:
        self.assigned.set()


@pytest.mark.kafka
async def test_whom_the_group_has_let_go_puts_back_no_commit(real_broker: BrokerUnderTest) -> None:
    """Not even while the group is empty; it may commit once it is a member again."""
    let_only_members_commit()
    let_only_members_commit()
    topic = await real_broker.create_topic("committed")
    at = TopicPartition(topic, 0)
    listener = Slow()
    consumer = AIOKafkaConsumer(
        **real_broker.settings.consumer_kwargs(), group_id=real_broker.topic("group")
    )
    await consumer.start()
    try:
        consumer.subscribe([topic], listener=listener)
        async with asyncio.timeout(60):
            await listener.assigned.wait()
            await consumer.commit({at: 5})

            # As after a freeze: the group is without members, and this one drains before it joins.
            coordinator = consumer._coordinator
            await coordinator._maybe_leave_group()
            coordinator.reset_generation()
            await listener.giving_up.wait()
            with pytest.raises(CommitFailedError):
                await consumer.commit({at: 3})
            listener.assigned.clear()
            listener.given_up.set()
            await listener.assigned.wait()

            assert await consumer.committed(at) == 5
            await consumer.commit({at: 6})
            assert await consumer.committed(at) == 6
    finally:
        listener.given_up.set()
        await consumer.stop()
