"""Records that the broker refuses for good: a process that cannot go on has to end."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from broker_under_test import BrokerUnderTest
from pipeline_process import RoleProcess
from pipeline_under_test import Pipeline, whole_pipeline

from millrace.streams.cli import exits
from millrace.streams.kafka_topic_admin import KafkaTopicAdmin
from millrace.streams.roles import Role

StartRole = Callable[[Pipeline, str], RoleProcess]

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

REFUSE = {"message.timestamp.before.max.ms": "0"}
"""Every record is older than that when it comes to the broker."""
TAKE = {"message.timestamp.before.max.ms": str(2**63 - 1)}


@pytest.mark.parametrize(
    ("role", "writes"), [(Role.ROUTER, "calls.openai"), (Role.VALIDATOR, "responses")]
)
async def test_a_process_whose_records_are_refused_ends_and_its_successor_goes_on(
    real_broker: BrokerUnderTest,
    tmp_path: Path,
    role_process: StartRole,
    role: Role,
    writes: str,
) -> None:
    """What they were made from is never acknowledged: who waits for that stays for ever."""
    others = frozenset({Role.ROUTER, Role.CALLER, Role.VALIDATOR}) - {role}
    topic = real_broker.topic(writes)
    async with (
        whole_pipeline(real_broker, tmp_path, roles=others) as pipeline,
        KafkaTopicAdmin(client_kwargs=real_broker.settings.client_kwargs()) as admin,
    ):
        process = role_process(pipeline, role.value)
        await process.start()
        try:
            await admin.set_configs(topic, REFUSE)
            request_id = await pipeline.ask("refused", route={"providers": ["openai"]})
            async with asyncio.timeout(60):
                status = await process.gone()
            said = "\n".join(process.said)
            await admin.set_configs(topic, TAKE)
            await process.start()
            response = await pipeline.topics.response(request_id)
            await process.terminate()
        finally:
            if process.pid is not None:
                await process.kill()

    assert status == exits.UNREACHABLE
    assert "InvalidTimestamp" in said
    assert response.status == "completed"
