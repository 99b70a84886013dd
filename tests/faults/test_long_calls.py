"""Calls that take longer than a consumer may be silent, members that idle as long, and a hang."""

import time
from pathlib import Path
from typing import Any

import pytest
from broker_under_test import BrokerUnderTest
from pipeline_lag import lag
from pipeline_process import RoleProcess
from pipeline_under_test import (
    eventually,
    pipeline_settings,
    provider_entries,
    running_pipeline,
    whole_pipeline,
)

from millrace.streams.roles import Role
from millrace.streams.settings import Settings
from millrace.streams.topics import TopicNames

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

POLL_SECONDS = 3.0
ROUTING = frozenset({Role.ROUTER, Role.VALIDATOR})


def impatient(broker: BrokerUnderTest, url: str, folder: Path) -> dict[str, Any]:
    """A caller whose group thinks it dead after a silence of three seconds; one call at a time."""
    tree = pipeline_settings(broker, url, folder, caller={"drain_seconds": 1.0})
    tree["kafka"]["poll_timeout_seconds"] = POLL_SECONDS
    for entry in tree["providers"].values():
        entry["limits"] = {"in_flight": 1}
    return tree


async def test_a_call_longer_than_the_poll_interval_is_made_once(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Full and paused, a caller still polls: it is not put out of its group, and no other calls."""
    async with whole_pipeline(real_broker, tmp_path, roles=ROUTING) as pipeline:
        tree = impatient(real_broker, pipeline.simulator.url, tmp_path)
        async with (
            RoleProcess(tree, folder=tmp_path, roles="caller", name="one"),
            RoleProcess(tree, folder=tmp_path, roles="caller", name="other"),
        ):
            route = {"providers": ["openai"]}
            latency = round(2.2 * POLL_SECONDS * 1000)
            asked = [
                await pipeline.ask("long", simulate=f"latency={latency}", route=route)
                for _ in range(4)
            ]
            # More than a caller reads ahead, so that it pauses its partitions meanwhile.
            asked += [await pipeline.ask("behind", route=route) for _ in range(80)]
            for request_id in asked:
                ended = await pipeline.topics.response(request_id, seconds=60)
                assert ended.status == "completed"

        assert [len(pipeline.paid(each)) for each in asked] == [1] * len(asked)
        assert [len(pipeline.topics.responses[each]) for each in asked] == [1] * len(asked)


async def test_a_standby_takes_over_after_the_poll_interval(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """It held no partition for longer than that, and works when the active one is killed."""
    single = real_broker.settings.model_copy(update={"partitions": 1})
    broker = BrokerUnderTest(single, None)
    async with whole_pipeline(broker, tmp_path, roles=frozenset()) as pipeline:
        tree = impatient(broker, pipeline.simulator.url, tmp_path)
        roles = "router,caller,validator"
        active = RoleProcess(tree, folder=tmp_path, roles=roles, name="active")
        async with active, RoleProcess(tree, folder=tmp_path, roles=roles, name="standby"):
            since = time.monotonic()
            while time.monotonic() - since < 2 * POLL_SECONDS:
                await pipeline.topics.response(await pipeline.ask("meanwhile"))
            await active.kill()
            asked = [await pipeline.ask("after") for _ in range(10)]
            for request_id in asked:
                ended = await pipeline.topics.response(request_id, seconds=60)
                assert ended.status == "completed"


async def test_a_provider_that_hangs_starves_no_other(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Its places are all taken for good; the others answer as if it were not there."""
    async with whole_pipeline(real_broker, tmp_path) as pipeline:
        hung = [
            await pipeline.ask("hung", simulate="hang", route={"providers": ["openai"]})
            for _ in range(400)
        ]
        await pipeline.simulator.ledger.until(lambda ledger: ledger.totals().calls >= 256)
        for provider in ("anthropic", "gemini", "ollama"):
            asked = [
                await pipeline.ask("beside", route={"providers": [provider]}) for _ in range(20)
            ]
            for request_id in asked:
                ended = await pipeline.topics.response(request_id, seconds=10)
                assert ended.status == "completed"
        assert not any(pipeline.topics.responses[each] for each in hung)


async def test_calls_beyond_what_a_caller_may_hold_stay_on_their_topic(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """All its places hang: it holds so many more, whatever comes, and the rest is lag."""
    roles = frozenset({Role.CALLER, *ROUTING})
    count = 600
    async with whole_pipeline(real_broker, tmp_path, roles=frozenset()) as pipeline:
        tree = pipeline.settings.model_dump(mode="python")
        entry = provider_entries(pipeline.simulator.url, limits={"in_flight": 4})["openai"]
        tree["providers"] = {"openai": entry}
        async with running_pipeline(
            Settings.model_validate(tree), real_broker, roles=roles
        ) as running:
            (caller,) = running.callers
            calls = TopicNames(pipeline.settings.kafka.topic_prefix).calls("openai")
            for _ in range(count):
                await pipeline.ask("beyond", simulate="hang", route={"providers": ["openai"]})

            async def all_wait() -> bool:
                return await lag(pipeline, "caller-openai", calls) == count

            await eventually(all_wait, "all calls to be on their topic")
            assert caller.in_flight == 4
            assert 0 < len(caller._admission) <= 64
