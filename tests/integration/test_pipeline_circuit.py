"""A model that fails again and again is left alone for a while."""

from pathlib import Path

from broker_under_test import BrokerUnderTest
from pipeline_under_test import Pipeline, whole_pipeline

CALLER = {
    "drain_seconds": 10.0,
    "commit_interval_seconds": 0.1,
    "backoff": {"max_tries": 1},
    "circuit": {"consecutive_failures": 2, "open_seconds": 3.0, "probes": 1},
}
ALONE = {"providers": ["openai"]}


async def fail(pipeline: Pipeline) -> None:
    """Make a call that fails."""
    request_id = await pipeline.ask("fails", simulate="http=500", route=ALONE)
    response = await pipeline.topics.response(request_id)
    assert response.status == "failed"


async def test_an_open_circuit_spares_the_model_and_closes_again(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Calls go to the next candidate, or wait until the model is asked again."""
    async with whole_pipeline(broker, tmp_path, caller=CALLER) as pipeline:
        await fail(pipeline)
        await fail(pipeline)
        elsewhere = await pipeline.ask(
            "elsewhere",
            route={"providers": ["openai", "anthropic"], "prefer_providers": ["openai"]},
        )
        waits = await pipeline.ask("waits", stream=True, route=ALONE)

        response = await pipeline.topics.response(elsewhere)
        first, second = response.attempts
        assert (first.provider, first.status, first.usage) == ("openai", "failed", None)
        assert first.error is not None
        assert "circuit is open" in first.error.message
        assert (second.provider, second.status) == ("anthropic", "completed")
        assert len(pipeline.paid(elsewhere)) == 1

        # The same process meets the same attempt a second time, and makes it.
        response = await pipeline.topics.response(waits)
        assert [(each.attempt, each.status) for each in response.attempts] == [(1, "completed")]
        assert len(pipeline.paid(waits)) == 1
        after = await pipeline.ask("after", route=ALONE)
        assert (await pipeline.topics.response(after)).status == "completed"
