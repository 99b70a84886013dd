"""Calls that take longer than a consumer may be silent, members that idle as long, and a hang."""

import time
from pathlib import Path
from typing import Any

import pytest
from broker_under_test import BrokerUnderTest
from pipeline_process import RoleProcess
from pipeline_under_test import pipeline_settings, whole_pipeline

from millrace.streams.roles import Role

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
            for request_id in asked:
                ended = await pipeline.topics.response(request_id, seconds=60)
                assert ended.status == "completed"

        assert [len(pipeline.paid(each)) for each in asked] == [1] * len(asked)
        assert [len(pipeline.topics.responses[each]) for each in asked] == [1] * len(asked)


async def test_an_idle_member_takes_over_after_the_poll_interval(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """It had nothing to do for longer than that, and works when the active one is killed."""
    async with whole_pipeline(real_broker, tmp_path, roles=ROUTING) as pipeline:
        tree = impatient(real_broker, pipeline.simulator.url, tmp_path)
        active = RoleProcess(tree, folder=tmp_path, roles="caller", name="active")
        async with active, RoleProcess(tree, folder=tmp_path, roles="caller", name="idle"):
            since = time.monotonic()
            while time.monotonic() - since < 2 * POLL_SECONDS:
                # One after the other, so that the other one has little to do.
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
