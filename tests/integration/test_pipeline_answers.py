"""Requests that end well, over every wire."""

import pytest
from pipeline_under_test import PROVIDERS, Pipeline, fresh_id, request_body

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_streamed_answer_comes_in_order_and_whole(
    pipeline: Pipeline, provider: str
) -> None:
    """Chunks are numbered without gaps; joined they are the terminal record's text."""
    request_id = await pipeline.ask(
        "streamed", simulate="tokens=40 pace=400", stream=True, route={"providers": [provider]}
    )
    response = await pipeline.topics.response(request_id)
    chunks = await pipeline.topics.stream(request_id)

    assert (response.status, response.provider) == ("completed", provider)
    assert [each.sequence for each in chunks] == list(range(len(chunks)))
    assert "".join(each.delta for each in chunks) == response.text
    assert [each.end for each in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len(chunks) > 1
    assert len({each.invocation for each in chunks}) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [True, False])
async def test_the_books_say_what_the_provider_counted(
    pipeline: Pipeline, provider: str, stream: bool
) -> None:
    """To the token, streamed or not; an answer that was not streamed has no chunks."""
    request_id = await pipeline.ask("plain", stream=stream, route={"providers": [provider]})
    response = await pipeline.topics.response(request_id)
    (line,) = pipeline.paid(request_id)
    await pipeline.topics.until(
        lambda: len(pipeline.topics.ledger[request_id]) == 2, "both ledger events"
    )
    reserved, spent = pipeline.topics.ledger[request_id]

    assert line.stream is stream
    assert (reserved.event, spent.event, spent.status) == ("reserved", "spent", "completed")
    assert response.usage == spent.usage
    assert spent.usage.source == "reported"
    assert (spent.usage.input_tokens, spent.usage.output_tokens) == (
        line.input_tokens,
        line.generated_tokens,
    )
    assert response.cost_usd == spent.cost_usd
    assert spent.cost_usd is not None
    assert (spent.cost_usd > 0) is (provider != "ollama")
    assert bool(pipeline.topics.chunks[request_id]) is stream


async def test_the_smallest_request_is_answered_under_a_derived_id(pipeline: Pipeline) -> None:
    """One line, no key, no id."""
    before = set(pipeline.topics.responses)
    await pipeline.send(b'{"prompt": "Why is the sky blue?"}')
    await pipeline.topics.until(
        lambda: set(pipeline.topics.responses) - before, "the answer to the smallest request"
    )

    (request_id,) = set(pipeline.topics.responses) - before
    assert pipeline.topics.responses[request_id][0].status == "completed"


async def test_json_is_parsed_and_checked(pipeline: Pipeline) -> None:
    """Against the schema that the request gives."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
    request_id = await pipeline.ask("json", output={"format": "json", "schema": schema})
    response = await pipeline.topics.response(request_id)

    assert response.status == "completed"
    assert set(response.data) == {"city", "people"}


async def test_a_template_is_rendered_and_named(pipeline: Pipeline) -> None:
    """Its name, version and hash travel to the end and to the books."""
    request_id = fresh_id("template")
    await pipeline.send(
        {
            "request_id": request_id,
            "template": "summarization@1",
            "variables": {"document": "A mill grinds corn."},
        }
    )
    response = await pipeline.topics.response(request_id)

    assert (response.status, response.task) == ("completed", "summarization")
    assert response.prompt is not None
    assert (response.prompt.name, response.prompt.version) == ("summarization", 1)
    await pipeline.topics.until(lambda: pipeline.topics.ledger[request_id], "the ledger")
    assert pipeline.topics.ledger[request_id][0].prompt == response.prompt


async def test_private_requests_stay_on_local_hardware(pipeline: Pipeline) -> None:
    """Though something else is preferred; and where only the cloud is allowed, nobody is asked."""
    private = {"sensitivity": "private", "prefer_providers": ["openai"]}
    request_id = await pipeline.ask("private", route=private)
    refused = await pipeline.ask("private", route={**private, "providers": ["openai"]})

    response = await pipeline.topics.response(request_id)
    assert (response.status, response.provider) == ("completed", "ollama")
    assert [line.instance for line in pipeline.paid(request_id)] == ["ollama"]
    rejected = await pipeline.topics.response(refused)
    assert rejected.error is not None
    assert (rejected.status, rejected.error.code) == ("rejected", "no_route")
    assert pipeline.paid(refused) == []


async def test_what_a_request_carries_comes_back(pipeline: Pipeline) -> None:
    """Team, task, tags; and the times make sense."""
    request_id = await pipeline.ask(
        "tags", team="payments", task="code_review", tags={"pr": "12", "ü": "漢"}
    )
    response = await pipeline.topics.response(request_id)

    assert (response.team, response.task, response.tags) == (
        "payments",
        "code_review",
        {"pr": "12", "ü": "漢"},
    )
    assert response.accepted_at is not None
    assert response.accepted_at <= response.completed_at


@pytest.mark.parametrize(("key", "partition"), [(b"other", None), (None, 0), (None, 1)])
async def test_a_request_may_lie_on_any_partition(
    pipeline: Pipeline, key: bytes | None, partition: int | None
) -> None:
    """Written with another key, another partitioner or none: it ends once, and is paid once."""
    request_id = fresh_id("moved")
    await pipeline.send(request_body(request_id), key=key, partition=partition)
    await pipeline.send(request_body(request_id), partition=0)
    await pipeline.send(request_body(request_id), partition=1)
    last = await pipeline.ask("after")

    await pipeline.topics.response(request_id)
    await pipeline.topics.response(last)
    assert len(pipeline.paid(request_id)) == 1
    assert len(pipeline.topics.responses[request_id]) == 1
