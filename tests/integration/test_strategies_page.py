"""The examples of the page on strategies, run as they stand."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from broker_under_test import BrokerUnderTest
from pipeline_under_test import Pipeline, fresh_id, whole_pipeline

from millrace.schemas.request import Request
from millrace.streams.embedded.broker import EmbeddedBroker
from millrace.streams.kafka_settings import KafkaSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"
EXAMPLES = [
    json.loads(block)
    for block in re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
]
TIERS = [["ollama/*", "openai/*"], ["anthropic/*"]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page_pipeline(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pipeline]:
    """A pipeline with the usual four providers, two of whose models are a tier of their own."""
    settings = KafkaSettings(topic_prefix="page.", partitions=2)
    async with EmbeddedBroker() as embedded:
        broker = BrokerUnderTest(settings.on_embedded(embedded.bootstrap_servers), embedded)
        folder = tmp_path_factory.mktemp("page")
        routes = {"default": {"tiers": TIERS}}
        async with whole_pipeline(broker, folder, routes=routes) as running:
            yield running


def named(example: dict[str, Any]) -> str:
    """The mode or strategy of an example."""
    route = example["route"]
    return str(route.get("mode", route["strategy"]))


@pytest.mark.parametrize("example", EXAMPLES, ids=named)
async def test_an_example_of_the_page_works(
    page_pipeline: Pipeline, example: dict[str, Any]
) -> None:
    """It is a valid request, is routed as it says, and completes without a step failing."""
    asked = Request.model_validate(example)
    request_id = fresh_id("page")
    await page_pipeline.send({**example, "request_id": request_id})
    response = await page_pipeline.topics.response(request_id)

    assert (response.status, response.error) == ("completed", None)
    assert response.strategy == asked.route.strategy
    assert response.text
    if response.ensemble is not None:
        assert (response.ensemble.missing, response.ensemble.notes) in {
            ((), ()),
            (response.ensemble.cancelled, ()),
        }


async def test_the_page_has_an_example_of_every_strategy_and_mode() -> None:
    """None is left out."""
    routes = [each["route"] for each in EXAMPLES]

    assert {"ensemble", "parallel", "cascade", "delegate"} == {each["strategy"] for each in routes}
    assert {"vote", "weighted", "best_of", "merge", "chain"} == {
        each["mode"] for each in routes if "mode" in each
    }
