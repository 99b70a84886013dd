"""A whole pipeline whose provider entries are a LiteLLM proxy, in both APIs that it speaks."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from broker_under_test import BrokerUnderTest
from pipeline_under_test import Pipeline, whole_pipeline
from third_party_servers import ANSWER, KEY, ServerProcess

from millrace.providers.simulator.ledger import LedgerFilter, LedgerLine
from millrace.providers.simulator.server import Simulator
from millrace.schemas.ledger import UsageEvent
from millrace.streams.embedded.broker import EmbeddedBroker
from millrace.streams.kafka_settings import KafkaSettings

pytestmark = pytest.mark.asyncio(loop_scope="session")
entries = pytest.mark.parametrize(
    ("entry", "model"),
    [("litellm-openai", "openai-upstream"), ("litellm-anthropic", "anthropic-upstream")],
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pipeline(
    litellm: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pipeline]:
    """On an embedded broker, without a store."""
    providers: dict[str, dict[str, Any]] = {
        "litellm-openai": {
            "wire": "openai",
            "base_url": f"{litellm.url}/v1",
            "headers": {"authorization": f"Bearer {KEY}"},
            "models": {"openai-upstream": {}, "openai-mock": {}, "limited": {}},
        },
        "litellm-anthropic": {
            "wire": "anthropic",
            "base_url": litellm.url,
            "headers": {"x-api-key": KEY},
            "models": {"anthropic-upstream": {}},
        },
    }
    settings = KafkaSettings(topic_prefix="third-party.", partitions=2)
    async with EmbeddedBroker() as embedded:
        broker = BrokerUnderTest(settings.on_embedded(embedded.bootstrap_servers), embedded)
        folder: Path = tmp_path_factory.mktemp("pipeline-through-litellm")
        async with whole_pipeline(broker, folder, providers=providers) as running:
            yield running


def sold(upstream: Simulator, request_id: str) -> LedgerLine:
    """The upstream's own account of a request's one call."""
    (line,) = upstream.ledger.lines(LedgerFilter(label=request_id))
    return line


async def spent(pipeline: Pipeline, request_id: str, *, attempts: int = 1) -> list[UsageEvent]:
    """What the ledger says of a request's attempts, in the order of their ends."""

    def events() -> list[UsageEvent]:
        return [each for each in pipeline.topics.ledger[request_id] if each.event == "spent"]

    await pipeline.topics.until(lambda: len(events()) >= attempts, f"the books of {request_id}")
    return events()


@entries
@pytest.mark.parametrize("stream", [True, False])
async def test_the_books_say_what_the_upstream_sold(
    pipeline: Pipeline, upstream: Simulator, entry: str, model: str, stream: bool
) -> None:
    """To the token, from the topic of requests to a simulator behind two servers and back."""
    request_id = await pipeline.ask(
        "through-litellm", simulate="tokens=30", stream=stream, route={"models": [model]}
    )
    response = await pipeline.topics.response(request_id)
    (event,) = await spent(pipeline, request_id)
    line = sold(upstream, request_id)

    assert (response.status, response.provider) == ("completed", entry)
    assert response.usage == event.usage
    assert event.usage.source == "reported"
    assert (event.usage.input_tokens, event.usage.output_tokens) == (
        line.input_tokens,
        line.generated_tokens,
    )
    assert (line.stream, line.ended) == (stream, "complete")


@entries
async def test_a_streamed_answer_comes_in_order_and_whole(
    pipeline: Pipeline, entry: str, model: str
) -> None:
    """Chunks without gaps, whose text is the terminal record's."""
    request_id = await pipeline.ask(
        "streamed", simulate="tokens=40 pace=100", stream=True, route={"models": [model]}
    )
    response = await pipeline.topics.response(request_id)
    chunks = await pipeline.topics.stream(request_id)

    assert {(each.provider, each.model) for each in chunks} == {(entry, model)}
    assert [each.sequence for each in chunks] == list(range(len(chunks)))
    assert "".join(each.delta for each in chunks) == response.text != ""
    assert [each.end for each in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len(chunks) > 2


@pytest.mark.parametrize("stream", [True, False])
async def test_the_cost_is_the_one_that_the_proxy_reports(pipeline: Pipeline, stream: bool) -> None:
    """Though nothing in the entry says what its models cost."""
    request_id = await pipeline.ask(
        "cost", stream=stream, route={"providers": ["litellm-openai"], "models": ["openai-mock"]}
    )
    response = await pipeline.topics.response(request_id)
    (event,) = await spent(pipeline, request_id)

    assert response.text == ANSWER
    assert event.cost_source == "provider"
    assert event.cost_usd == response.cost_usd
    assert event.cost_usd is not None
    assert event.cost_usd > 0


async def test_a_rate_limit_of_the_proxy_leads_to_the_next_candidate(
    pipeline: Pipeline, upstream: Simulator
) -> None:
    """One good end, and the attempt that was limited is in the record and cost nothing."""
    request_id = await pipeline.ask(
        "limited",
        stream=True,
        route={"models": ["limited", "anthropic-upstream"], "prefer_models": ["limited"]},
    )
    response = await pipeline.topics.response(request_id)

    first, *_, last = response.attempts
    assert (response.status, response.error) == ("completed", None)
    assert (first.model, first.status) == ("limited", "failed")
    assert first.error is not None
    assert first.error.code == "rate_limited"
    assert (last.model, last.status) == ("anthropic-upstream", "completed")
    events = await spent(pipeline, request_id, attempts=len(response.attempts))
    assert [each.usage.output_tokens > 0 for each in events] == [
        each.status == "completed" for each in response.attempts
    ]
    assert sold(upstream, request_id).ended == "complete"
