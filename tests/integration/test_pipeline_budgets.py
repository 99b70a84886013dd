"""Budgets in a whole pipeline: what is refused, where it goes instead, and what is counted."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest_asyncio
from broker_under_test import BrokerUnderTest
from pipeline_under_test import Pipeline, running_pipeline, whole_pipeline

from millrace.streams.roles import Role

LIMIT = Decimal("0.001")
BUDGETS = [
    {"name": "all", "tokens": 100_000},
    {"name": "openai", "provider": "openai", "usd": str(LIMIT)},
]


@pytest_asyncio.fixture
async def limited(broker: BrokerUnderTest, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """A pipeline whose budgets a burst can use up."""
    async with whole_pipeline(broker, tmp_path, budgets=BUDGETS) as pipeline:
        yield pipeline


async def test_a_burst_spends_no_more_than_the_budget(limited: Pipeline) -> None:
    """What does not fit is rejected with the reason, or answered by what costs nothing."""
    small = {"max_output_tokens": 100}
    only = {"providers": ["openai"]}
    burst = [await limited.ask("burst", route=only, parameters=small) for _ in range(40)]
    ended = [await limited.topics.response(each) for each in burst]
    refused = [each for each in ended if each.status == "rejected"]
    spent = sum((each.cost_usd for each in ended if each.cost_usd is not None), Decimal(0))

    assert {each.status for each in ended} == {"completed", "rejected"}
    assert spent <= LIMIT
    assert {each.error.code for each in refused if each.error} == {"budget_exceeded"}
    assert not [line for each in refused for line in limited.paid(each.request_id)]
    counted = limited.running.tally.metrics.registry.get_sample_value
    assert counted("millrace_budget_refusals_total", {"budget": "openai"}) == len(refused)

    either = {"providers": ["openai", "ollama"], "prefer_providers": ["openai"]}
    long = {"max_output_tokens": 2_000}
    response = await limited.topics.response(
        await limited.ask("fallback", route=either, parameters=long)
    )
    assert (response.status, response.provider) == ("completed", "ollama")
    assert [each.status for each in response.attempts] == ["failed", "completed"]


async def test_an_ensemble_that_no_budget_lets_pass_is_rejected(limited: Pipeline) -> None:
    """Though each of its members was refused by itself."""
    route = {"strategy": "ensemble", "members": 2, "providers": ["openai", "anthropic"]}
    request_id = await limited.ask("vote", route=route, parameters={"max_output_tokens": 200_000})
    response = await limited.topics.response(request_id)

    assert response.status == "rejected"
    assert response.error is not None
    assert response.error.code == "budget_exceeded"


async def test_what_was_spent_is_remembered_by_the_next_process(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Whoever keeps the budgets next goes on from the sums of the one before."""
    budgets = [{"name": "openai", "provider": "openai", "tokens": 3_000}]
    others = frozenset({Role.ROUTER, Role.CALLER})
    keeping = frozenset({Role.VALIDATOR})
    large, small = {"max_output_tokens": 2_000}, {"max_output_tokens": 500}
    route = {"providers": ["openai"]}
    async with whole_pipeline(broker, tmp_path, roles=others, budgets=budgets) as pipeline:
        topics = pipeline.topics
        async with running_pipeline(pipeline.settings, broker, roles=keeping):
            request_id = await pipeline.ask(
                "before", simulate="tokens=1500", route=route, parameters=large
            )
            assert (await topics.response(request_id)).status == "completed"
        async with running_pipeline(pipeline.settings, broker, roles=keeping):
            too_much = await topics.response(
                await pipeline.ask("after", route=route, parameters=large)
            )
            fitting = await topics.response(
                await pipeline.ask("after", route=route, parameters=small)
            )

    assert (too_much.status, fitting.status) == ("rejected", "completed")
