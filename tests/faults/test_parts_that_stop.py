"""A part that stops of itself: the process ends and says so, and does not just look alive."""

from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from broker_under_test import BrokerUnderTest
from pipeline_under_test import Pipeline, eventually, running_pipeline, whole_pipeline

from millrace.schemas.errors import PipelineError
from millrace.streams.roles import Role
from millrace.streams.running_pipeline import RunningPipeline
from millrace.streams.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

FAULT = "a fault of the client library"


async def notices(running: RunningPipeline) -> bool:
    """Whether the process says by itself that it cannot go on, not only when it is told to stop."""

    async def failed() -> bool:
        return running.failure is not None

    try:
        await eventually(failed, "the process to notice", seconds=25)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("role", [Role.ROUTER, Role.VALIDATOR])
async def test_a_processor_that_faust_has_stopped_ends_the_process(
    real_broker: BrokerUnderTest, tmp_path: Path, role: Role
) -> None:
    """Faust tells nobody: its tasks are over, its member of the group may live on."""
    noticed = []

    async def run(settings: Settings) -> None:
        async with running_pipeline(settings, real_broker, roles=frozenset({role})) as running:
            await running.apps[0].app.consumer.crash(RuntimeError(FAULT))
            noticed.append(await notices(running))

    async with whole_pipeline(real_broker, tmp_path, roles=frozenset()) as pipeline:
        with pytest.raises(PipelineError, match=f"has stopped.*{FAULT}"):
            await run(pipeline.settings)

    assert noticed == [True]


@pytest.mark.parametrize("part", ["calls.openai", "retries"])
async def test_commits_that_have_stopped_end_the_process(
    real_broker: BrokerUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Work would go on, and all of it would be done again after a restart."""
    whole = AIOKafkaConsumer.commit

    async def commit(consumer: Any, offsets: Any = None) -> None:
        if any(each.topic.endswith(part) for each in offsets):
            raise RuntimeError(FAULT)
        await whole(consumer, offsets)

    noticed = []

    async def run(pipeline: Pipeline) -> None:
        calling = frozenset({Role.CALLER})
        async with running_pipeline(pipeline.settings, real_broker, roles=calling) as running:
            # By way of the retries topic, and through a commit of both.
            simulate = "http=429 retry_after=3 times=1"
            await pipeline.ask("again", simulate=simulate, route={"providers": ["openai"]})
            noticed.append(await notices(running))

    others = frozenset({Role.ROUTER, Role.VALIDATOR})
    async with whole_pipeline(real_broker, tmp_path, roles=others) as pipeline:
        monkeypatch.setattr(AIOKafkaConsumer, "commit", commit)
        with pytest.raises(PipelineError, match=FAULT):
            await run(pipeline)

    assert noticed == [True]
