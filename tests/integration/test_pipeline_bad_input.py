"""Bad input goes to the dead letters, whole, and harms nobody."""

import gzip
import json
from typing import Any

import pytest
from pipeline_under_test import Pipeline, client_producer, fresh_id, request_body, send_request

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD: dict[str, tuple[bytes | None, str]] = {
    "no JSON": (b"nonsense", "invalid_json"),
    "empty": (b"", "invalid_json"),
    "cut off": (b'{"prompt": "x"', "invalid_json"),
    "NaN": (b'{"prompt": "x", "variables": {"n": NaN}}', "invalid_json"),
    "bad UTF-8": (b'{"prompt": "\xff\xfe"}', "invalid_encoding"),
    "binary": (bytes(range(256)), "invalid_encoding"),
    "a tombstone": (None, "tombstone"),
    "a list": (b"[1, 2]", "invalid_request"),
    "null": (b"null", "invalid_request"),
    "deep": (b"[" * 100_000, "invalid_json"),
}
"""Values of which no request id can be read."""


def nested(levels: int) -> dict[str, Any]:
    """JSON that can be read, and is too deep to be written again."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"prompt": "x", "colour": "blue"}, "invalid_request"),
    "an unknown task": ({"prompt": "x", "task": "cooking"}, "invalid_request"),
    "a wrong type": ({"prompt": 5}, "invalid_request"),
    "nothing to ask": ({}, "invalid_request"),
    "two things to ask": ({"prompt": "x", "template": "general"}, "invalid_request"),
    "an unknown template": ({"template": "no_such_template@1"}, "prompt_error"),
    "an unknown version": ({"template": "summarization@99"}, "prompt_error"),
    "a missing variable": ({"template": "summarization@1"}, "prompt_error"),
    "no such provider": ({"prompt": "x", "route": {"providers": ["nobody"]}}, "no_route"),
    "no such model": ({"prompt": "x", "route": {"models": ["gpt-0"]}}, "no_route"),
    "a naive deadline": ({"prompt": "x", "deadline": "2030-01-01T00:00:00"}, "invalid_request"),
    "a schema that is none": (
        {"prompt": "x", "output": {"format": "json", "schema": {"type": "colour"}}},
        "invalid_request",
    ),
    "a reply topic of ours": ({"prompt": "x", "reply_to": "millrace.responses"}, ""),
    "a reply topic that is not allowed": (
        {"prompt": "x", "reply_to": "payroll"},
        "reply_to_not_allowed",
    ),
    "a reply topic that does not exist": (
        {"prompt": "x", "reply_to": "no.such.replies"},
        "reply_to_not_allowed",
    ),
    "nested too deeply": ({"prompt": "x", "variables": nested(300)}, "invalid_request"),
    "too large": ({"prompt": "x" * 950_000}, "too_large"),
}
"""Requests whose id can be read, so that their sender hears of it."""


async def neighbours_do_not_notice(pipeline: Pipeline, partition: int) -> None:
    """A good request behind the bad one, on the same partition, is answered."""
    request_id = fresh_id("neighbour")
    await pipeline.send(request_body(request_id), key=b"any", partition=partition)

    assert (await pipeline.topics.response(request_id)).status == "completed"


@pytest.mark.parametrize("name", BAD)
async def test_a_record_that_is_no_request_is_set_aside(pipeline: Pipeline, name: str) -> None:
    """Key, value and headers byte for byte, with where it lay and why."""
    value, code = BAD[name]
    key = b"\xff\x00key"
    headers = [("trace", b"\x00\xff"), ("empty", b"")]
    source = await pipeline.send(value, key=key, headers=headers)
    letter = await pipeline.topics.dead_letter(source)

    assert letter.error.code == code
    assert (None if letter.value is None else letter.value.bytes()) == value
    assert letter.key is not None
    assert letter.key.bytes() == key
    assert pipeline.topics.dead_letter_keys[source] == key
    assert [(each.name, each.value.bytes()) for each in letter.headers] == headers
    assert letter.request_id is None
    await neighbours_do_not_notice(pipeline, source[1])


@pytest.mark.parametrize("topic", ["calls.openai", "outcomes", "retries"])
async def test_a_record_of_ours_that_cannot_be_read_blocks_nothing(
    pipeline: Pipeline, topic: str
) -> None:
    """Each partition has one, from a version that never was; what lies behind it is worked on."""
    full = f"{pipeline.settings.kafka.topic_prefix}{topic}"
    for partition in range(pipeline.settings.kafka.partitions):
        at = await pipeline.producer.send_and_wait(full, b'{"call": 1}', partition=partition)
        letter = await pipeline.topics.dead_letter((full, partition, at.offset))

        assert letter.error.code in {"internal_record_invalid", "invalid_event"}
        assert letter.value is not None
        assert letter.value.bytes() == b'{"call": 1}'
    route = {"providers": ["openai"]}
    simulate = "http=429 retry_after=3 times=1" if topic == "retries" else ""
    for _ in range(4):
        request_id = await pipeline.ask("behind", route=route, simulate=simulate)
        assert (await pipeline.topics.response(request_id)).status == "completed"


@pytest.mark.parametrize("name", WRONG)
async def test_a_request_that_cannot_be_met_is_rejected(pipeline: Pipeline, name: str) -> None:
    """The requester hears why, nothing is paid, and the dead letter has the bytes."""
    fields, code = WRONG[name]
    request_id = fresh_id("wrong")
    body = {"request_id": request_id, "team": "payments", **fields}
    if name == "a reply topic of ours":
        own = f"{pipeline.settings.kafka.topic_prefix}replies"
        body, code = {**body, "reply_to": own}, "reply_to_not_allowed"
    source = await pipeline.send(body)
    response = await pipeline.topics.response(request_id)
    letter = await pipeline.topics.dead_letter_about(request_id)

    assert response.error is not None
    assert (response.status, response.error.code) == ("rejected", code)
    assert (response.team, response.usage, response.attempts) == ("payments", None, ())
    assert letter.error == response.error
    assert letter.value is not None
    assert json.loads(letter.value.bytes()) == body
    await neighbours_do_not_notice(pipeline, source[1])


@pytest.mark.parametrize("byte", [b"\x01", b'"', b" "])
async def test_bytes_that_swell_or_shrink_harm_nobody(pipeline: Pipeline, byte: bytes) -> None:
    """Compressed, far more passes a broker's limit than any topic of ours takes."""
    value = byte * 6_000_000
    assert len(gzip.compress(value)) < 100_000
    async with client_producer(pipeline.broker, compression="gzip") as producer:
        source = await send_request(producer, pipeline.requests, value)
    letter = await pipeline.topics.dead_letter(source)

    assert letter.value is None
    assert "6000000 bytes" in letter.error.message
    await neighbours_do_not_notice(pipeline, source[1])


async def test_the_same_request_again_is_not_paid_again(pipeline: Pipeline) -> None:
    """Nor does it end twice, whether it comes while the first is under way or after."""
    request_id = fresh_id("twice")
    body = request_body(request_id, simulate="latency=300")
    for _ in range(3):
        await pipeline.send(body)
    await pipeline.topics.response(request_id)
    await pipeline.send(dict(reversed(body.items())))
    streamed = await pipeline.send({**body, "stream": True})
    other = await pipeline.send({**body, "team": "other"})
    await pipeline.topics.dead_letter(other)

    assert len(pipeline.paid(request_id)) == 1
    assert len(pipeline.topics.responses[request_id]) == 1
    assert streamed not in pipeline.topics.dead_letters


async def test_other_content_under_a_used_id_is_set_aside(pipeline: Pipeline) -> None:
    """The first request is the one that ends."""
    request_id = fresh_id("conflict")
    await pipeline.send(request_body(request_id))
    source = await pipeline.send(request_body(request_id, prompt="Something else."))
    letter = await pipeline.topics.dead_letter(source)
    response = await pipeline.topics.response(request_id)

    assert letter.error.code == "request_id_conflict"
    assert response.status == "completed"
    assert len(pipeline.topics.responses[request_id]) == 1
    assert len(pipeline.paid(request_id)) == 1


async def test_a_rejected_request_may_come_again_mended(pipeline: Pipeline) -> None:
    """Under the same id."""
    request_id = fresh_id("mended")
    await pipeline.send({**request_body(request_id), "colour": "blue"})
    await pipeline.topics.response(request_id)
    await pipeline.send(request_body(request_id))
    await pipeline.topics.until(
        lambda: len(pipeline.topics.responses[request_id]) == 2, "the second end"
    )

    ends = [each.status for each in pipeline.topics.responses[request_id]]
    assert ends == ["rejected", "completed"]


async def test_a_reply_goes_where_the_request_wants_it(pipeline: Pipeline) -> None:
    """Besides the responses, and equal to what stands there; rejections too."""
    request_id = await pipeline.ask("reply", reply_to=pipeline.reply_topic)
    rejected = await pipeline.ask("reply-no", reply_to=pipeline.reply_topic, colour="blue")
    for each in (request_id, rejected):
        response = await pipeline.topics.response(each)
        await pipeline.topics.until(lambda each=each: pipeline.topics.replies[each], "the reply")

        assert pipeline.topics.replies[each] == [response]
    assert pipeline.topics.replies[rejected][0].status == "rejected"


async def test_a_reply_topic_that_takes_no_such_record_harms_nobody(pipeline: Pipeline) -> None:
    """The copy is set aside, the terminal record stands, and work goes on."""
    request_id = await pipeline.ask("narrow", reply_to=pipeline.narrow_topic)
    response = await pipeline.topics.response(request_id)
    for _ in range(3):
        after = await pipeline.ask("after-narrow")
        assert (await pipeline.topics.response(after)).status == "completed"

    assert response.status == "completed"
    if pipeline.broker.is_real:
        letter = await pipeline.topics.dead_letter_about(request_id)
        assert letter.topic == pipeline.narrow_topic
        assert letter.value is not None
        assert type(response).decode(letter.value.bytes()) == response
