"""Failures that pass: the same model is asked again, at once or when its time has come."""

from datetime import timedelta

import pytest
from pipeline_under_test import Pipeline, read_topic

from millrace.schemas.retry import Retry
from millrace.streams.topics import TopicNames

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALONE = {"providers": ["openai"]}


async def waited(pipeline: Pipeline, request_id: str) -> list[Retry]:
    """What came to lie on the retries topic for a request."""
    topic = TopicNames(pipeline.settings.kafka.topic_prefix).retries
    records = [
        Retry.decode(each.value, each.headers) for each in await read_topic(pipeline.broker, topic)
    ]
    return [each for each in records if each.call.job.request_id == request_id]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_short_failure_is_tried_again_in_place(pipeline: Pipeline, stream: bool) -> None:
    """Each try is in the books, and none of them went over the retries topic."""
    request_id = await pipeline.ask(
        "hiccup", simulate="http=500 times=2", stream=stream, route=ALONE
    )
    response = await pipeline.topics.response(request_id)

    assert response.status == "completed"
    assert [each.status for each in response.attempts] == ["failed", "failed", "completed"]
    assert [each.attempt for each in response.attempts] == [1, 2, 3]
    events = pipeline.topics.ledger[request_id]
    await pipeline.topics.until(lambda: len(events) == 6, "two events for each try")
    assert len({each.row_id for each in events}) == 3
    assert len(pipeline.paid(request_id)) == 3
    assert await waited(pipeline, request_id) == []
    if stream:
        chunks = await pipeline.topics.stream(request_id)
        assert "".join(each.delta for each in chunks if each.attempt == 3) == response.text


async def test_a_provider_that_asks_for_time_gets_it(pipeline: Pipeline) -> None:
    """The call waits on the retries topic, and is made no sooner."""
    request_id = await pipeline.ask(
        "busy", simulate="http=429 retry_after=3 times=1", stream=True, route=ALONE
    )
    response = await pipeline.topics.response(request_id)

    assert response.status == "completed"
    assert [each.status for each in response.attempts] == ["failed", "completed"]
    assert response.completed_at - response.accepted_at >= timedelta(seconds=3)
    (retry,) = await waited(pipeline, request_id)
    assert (retry.call.attempt, retry.reason.code) == (2, "rate_limited")
    assert len(pipeline.paid(request_id)) == 2


async def test_the_members_of_an_ensemble_are_tried_again(pipeline: Pipeline) -> None:
    """The response lists every try."""
    route = {"strategy": "ensemble", "members": 2, "providers": ["openai", "anthropic"]}
    request_id = await pipeline.ask(
        "vote-hiccup",
        simulate='http=429 retry_after=2.5 only=openai times=1 answer="Yes."',
        route=route,
    )
    response = await pipeline.topics.response(request_id)

    assert response.status == "completed"
    tried = [(each.provider, each.status) for each in response.attempts]
    assert sorted(tried) == [
        ("anthropic", "completed"),
        ("openai", "completed"),
        ("openai", "failed"),
    ]


async def test_a_call_that_waits_can_be_cancelled(pipeline: Pipeline) -> None:
    """It ends long before its time."""
    request_id = await pipeline.ask("patient", simulate="http=429 retry_after=300", route=ALONE)
    events = pipeline.topics.ledger[request_id]
    await pipeline.topics.until(lambda: len(events) == 2, "the first try's end")
    await pipeline.cancel(request_id)

    response = await pipeline.topics.response(request_id)
    assert response.status == "cancelled"
    assert [each.status for each in response.attempts] == ["failed", "cancelled"]
    assert len(pipeline.paid(request_id)) == 1
