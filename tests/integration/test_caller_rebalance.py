"""A caller whose places are all taken while its group changes."""

from pathlib import Path

from broker_under_test import BrokerUnderTest
from pipeline_under_test import (
    eventually,
    provider_entries,
    read_topic,
    running_pipeline,
    whole_pipeline,
)

from millrace.streams.roles import Role
from millrace.streams.settings import Settings


async def test_a_full_caller_takes_no_more_though_partitions_come_anew(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Waiting calls stay on the topic: memory and the provider's limit are bounded."""
    routing = frozenset({Role.ROUTER, Role.VALIDATOR})
    async with whole_pipeline(broker, tmp_path, roles=routing) as pipeline:
        tree = pipeline.settings.model_dump(mode="python")
        entry = provider_entries(pipeline.simulator.url, limits={"in_flight": 2})["openai"]
        tree["providers"] = {"openai": entry}
        tree["caller"].update(drain_seconds=0.5)
        settings = Settings.model_validate(tree)
        calling = frozenset({Role.CALLER})
        async with running_pipeline(settings, broker, roles=calling) as first:
            for _ in range(30):
                await pipeline.ask("wait", simulate="hang", route={"providers": ["openai"]})

            async def first_is_full() -> bool:
                return first.callers[0].in_flight == 2

            await eventually(first_is_full, "the first caller to be full")
            async with running_pipeline(settings, broker, roles=calling) as second:

                async def full() -> bool:
                    return first.callers[0].in_flight == second.callers[0].in_flight == 2

                await eventually(full, "both callers to be full")
                # Another member comes and goes, so that partitions are shared out twice more.
                async with running_pipeline(settings, broker, roles=calling):
                    pass
                for _ in range(5):
                    # Each question of the broker's takes longer than a poll of the callers.
                    await read_topic(broker, pipeline.requests)
                    assert first.callers[0].in_flight <= 2
                    assert second.callers[0].in_flight <= 2
            open_calls = [
                line for line in pipeline.simulator.ledger.lines() if line.ended_at is None
            ]
            assert len(open_calls) <= 4
