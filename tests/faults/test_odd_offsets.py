"""Topics whose offsets have holes, and changelogs that are no longer there."""

from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from broker_under_test import BrokerUnderTest
from pipeline_lag import lag
from pipeline_under_test import (
    Pipeline,
    eventually,
    request_body,
    running_pipeline,
    send_request,
    whole_pipeline,
)

from millrace.streams.roles import Role

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def test_transactions_leave_holes_that_hold_nothing_up(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """A client that produces in transactions is served; commit markers freeze no commits."""
    async with whole_pipeline(real_broker, tmp_path) as pipeline:
        producer: Any = AIOKafkaProducer(
            **pipeline.settings.kafka.client_kwargs(),
            transactional_id=f"{pipeline.settings.app_id}-service",
        )
        await producer.start()
        asked = []
        try:
            for number in range(12):
                body = request_body(f"in-a-transaction-{number}")
                async with producer.transaction():
                    await send_request(producer, pipeline.requests, body)
                asked.append(body["request_id"])
        finally:
            await producer.stop()
        for request_id in asked:
            assert (await pipeline.topics.response(request_id)).status == "completed"

        async def no_record_waits() -> bool:
            # The last marker of each partition is no record: nobody reads past it.
            return await lag(pipeline, "router", pipeline.requests) <= 2

        await eventually(no_record_waits, "the router's commits to reach the ends")
        assert [len(pipeline.paid(each)) for each in asked] == [1] * len(asked)


@pytest.mark.parametrize("isolation", ["read_uncommitted", "read_committed"])
async def test_what_was_aborted_is_asked_only_where_nobody_minds(
    real_broker: BrokerUnderTest, tmp_path: Path, isolation: str
) -> None:
    """Read committed, it was never sent; what lies before and behind it is answered."""
    async with whole_pipeline(
        real_broker, tmp_path, kafka={"isolation_level": isolation}
    ) as pipeline:
        producer: Any = AIOKafkaProducer(
            **pipeline.settings.kafka.client_kwargs(),
            transactional_id=f"{pipeline.settings.app_id}-service",
        )
        await producer.start()
        try:
            for number in range(6):
                await producer.begin_transaction()
                await send_request(producer, pipeline.requests, request_body(f"aborted-{number}"))
                await producer.abort_transaction()
                async with producer.transaction():
                    body = request_body(f"committed-{number}")
                    await send_request(producer, pipeline.requests, body)
        finally:
            await producer.stop()
        kinds = ["committed", *(["aborted"] if isolation == "read_uncommitted" else [])]
        for kind in kinds:
            for number in range(6):
                response = await pipeline.topics.response(f"{kind}-{number}")
                assert response.status == "completed"
        # All of a partition were read in their order, so what is asked has been.
        paid = [bool(pipeline.paid(f"aborted-{number}")) for number in range(6)]
        assert paid == [isolation == "read_uncommitted"] * 6


async def test_records_that_were_deleted_unread_hold_nothing_up(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """The requests behind a hole at the committed offset are worked on."""
    async with whole_pipeline(real_broker, tmp_path) as pipeline:
        first = [await pipeline.ask("first") for _ in range(10)]
        for request_id in first:
            await pipeline.topics.response(request_id)
    async with whole_pipeline(real_broker, tmp_path, roles=frozenset({Role.CALLER})) as pipeline:
        for _ in range(10):
            await pipeline.ask("deleted")
        await truncate(pipeline, pipeline.requests)
        settings = pipeline.settings
        asked = [await pipeline.ask("behind") for _ in range(10)]
        async with running_pipeline(
            settings, real_broker, roles=frozenset({Role.ROUTER, Role.VALIDATOR})
        ):
            for request_id in asked:
                assert (await pipeline.topics.response(request_id)).status == "completed"


@pytest.mark.parametrize("table", ["joins", "seen"])
async def test_a_changelog_that_was_cut_off_does_not_stop_recovery(
    real_broker: BrokerUnderTest, tmp_path: Path, table: str
) -> None:
    """Nothing is left of it but its end: the tables begin empty, and work goes on."""
    async with whole_pipeline(real_broker, tmp_path) as pipeline:
        asked = [await pipeline.ask("before") for _ in range(10)]
        for request_id in asked:
            await pipeline.topics.response(request_id)
    role = {"joins": "validator", "seen": "router"}[table]
    changelog = f"{pipeline.settings.app_id}-{role}-{table}-changelog"
    async with real_broker.topic_admin() as admin:
        # The broker deletes no records of a topic that is compacted only.
        await admin.set_configs(changelog, {"cleanup.policy": "delete"})
        await truncate(pipeline, changelog)
        await admin.set_configs(changelog, {"cleanup.policy": "compact"})

    async with whole_pipeline(real_broker, tmp_path) as again:
        request_id = await again.ask("after")
        assert (await again.topics.response(request_id)).status == "completed"


async def truncate(pipeline: Pipeline, topic: str) -> None:
    """Delete every record of a topic; its offsets go on."""
    admin = AIOKafkaAdminClient(**pipeline.settings.kafka.client_kwargs())
    await admin.start()
    try:
        count = pipeline.settings.kafka.partitions
        await admin.delete_records(
            {
                TopicPartition(topic, each): RecordsToDelete(before_offset=-1)
                for each in range(count)
            }
        )
    finally:
        await admin.close()
