"""Two callers, a burst, a rate limit, a budget and a provider that flaps: the books are right."""

from decimal import Decimal
from pathlib import Path

from broker_under_test import BrokerUnderTest
from pipeline_books import open_books, the_books_are_right
from pipeline_under_test import Pipeline, provider_entries, running_pipeline, whole_pipeline

from millrace.streams.roles import Role
from millrace.streams.settings import Settings

LIMIT = Decimal("0.002")
BUDGETS = [{"name": "openai", "provider": "openai", "usd": str(LIMIT), "alerts": [0.5]}]
CALLER = {
    "commit_interval_seconds": 0.1,
    "drain_seconds": 10.0,
    "circuit": {
        "consecutive_failures": 2,
        "open_seconds": 0.1,
        "max_open_seconds": 0.2,
        "probes": 1,
    },
    "backoff": {"base_seconds": 0.01, "max_seconds": 0.05, "max_tries": 3},
}
ALONE = {"providers": ["openai"]}
SHORT = {"max_output_tokens": 100}


async def spent(pipeline: Pipeline) -> Decimal:
    """What the store says that live work has cost."""
    async with open_books(pipeline) as reader:
        answer = await reader.query("SELECT sum(cost_usd) FROM spend")
    return Decimal(str(answer.rows[0][0]))


async def test_a_burst_through_two_callers_is_booked_to_the_token(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """ClickHouse holds what the simulator sold, as the responses say, and the budget is kept."""
    roles = frozenset(Role) - {Role.CALLER}
    calling = frozenset({Role.CALLER})
    async with whole_pipeline(
        broker, tmp_path, roles=roles, budgets=BUDGETS, caller=CALLER
    ) as pipeline:
        tree = pipeline.settings.model_dump(mode="python")
        limits = {"requests_per_minute": 1200, "in_flight": 8}
        tree["providers"] = {
            "openai": provider_entries(pipeline.simulator.url, limits=limits)["openai"]
        }
        settings = Settings.model_validate(tree)
        async with (
            running_pipeline(settings, broker, roles=calling) as first,
            running_pipeline(settings, broker, roles=calling) as second,
        ):
            asked = []
            for number in range(60):
                fault = ("", "http=500 times=1", "cut after=4 times=1")[number % 3]
                asked.append(
                    await pipeline.ask(
                        "burst", simulate=fault, stream=True, route=ALONE, parameters=SHORT
                    )
                )
            ended = [await pipeline.topics.response(each, seconds=60) for each in asked]
            made = [each.tally.attempts for each in (first, second)]

        async with open_books(pipeline) as reader:
            await the_books_are_right(pipeline, reader)
        statuses = {each.status for each in ended}
        assert {"completed", "rejected"} <= statuses <= {"completed", "rejected", "failed"}
        assert all(made)
        known = [each.cost_usd for each in ended if each.cost_usd is not None]
        assert await spent(pipeline) == sum(known, Decimal(0)) <= LIMIT
