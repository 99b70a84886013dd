"""Clients that use Kafka as it allows, and not as anybody expects: served, or set aside exactly."""

import asyncio
import json

import pytest
from aiokafka.errors import KafkaError
from odd_records import RawName, send_odd
from pipeline_topics import Source
from pipeline_under_test import Pipeline, client_producer, fresh_id, request_body, send_request

from millrace.streams.routing_key import partition_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

BAD = b"nonsense"
LONG_AGO_MS = -1
"""What a client writes that knows no time: Kafka's NO_TIMESTAMP."""
HEADERS: dict[str, list[tuple[RawName | str, bytes | None]]] = {
    "a name that is no UTF-8": [(RawName(b"\xff\xfename"), b"x")],
    "an empty name": [("", b"x")],
    "no value": [("trace", None), ("traceparent", None), ("schema-version", None)],
    "values that are no UTF-8": [("traceparent", b"\xff" * 55), ("schema", b"\xc0\x80")],
    "a version of many digits": [("schema-version", b"9" * 5_000)],
    "one name many times": [("traceparent", b"00")] * 2_000,
    "many names": [(f"name-{number}", b"x" * 20) for number in range(5_000)],
    "a value of 500 kB": [("huge", b"x" * 500_000)],
    "an origin of its own": [("millrace-origin", b"x/7/99999999999999999999/9")],
    "an origin beyond all time": [("millrace-origin", b"x/0/1/" + b"9" * 17)],
    "an origin without value": [("millrace-origin", None)],
}


def home_of(pipeline: Pipeline, request_id: str) -> int:
    """The partition where a request is worked on."""
    return partition_of(request_id.encode(), pipeline.settings.kafka.partitions)


async def send(pipeline: Pipeline, value: bytes | None, **rest: object) -> Source:
    return await send_odd(pipeline.producer, pipeline.requests, value=value, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", HEADERS)
async def test_headers_of_any_kind_keep_no_request_from_its_answer(
    pipeline: Pipeline, name: str
) -> None:
    """On its key's partition and on another, with good neighbours before and behind it."""
    ids = []
    for partition in range(pipeline.settings.kafka.partitions):
        for headers in ([], HEADERS[name], []):
            request_id = fresh_id("odd-headers")
            value = json.dumps(request_body(request_id)).encode()
            await send(
                pipeline, value, headers=headers, partition=partition, key=request_id.encode()
            )
            ids.append(request_id)

    for request_id in ids:
        assert (await pipeline.topics.response(request_id)).status == "completed"


@pytest.mark.parametrize("name", HEADERS)
async def test_bad_input_keeps_its_headers(pipeline: Pipeline, name: str) -> None:
    """Name and value byte for byte, of each in order; or none, and it is said, if too large."""
    source = await send(pipeline, BAD, headers=HEADERS[name])
    letter = await pipeline.topics.dead_letter(source)

    assert letter.value is not None
    assert letter.value.bytes() == BAD
    expected = [(n.encode("utf-8"), value) for n, value in HEADERS[name]]
    found = [
        (each.name_bytes(), None if each.value is None else each.value.bytes())
        for each in letter.headers
    ]
    assert expected == found


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe", b"k" * 100_000, b"\x00"])
async def test_any_key_will_do(pipeline: Pipeline, key: bytes | None) -> None:
    """Good requests are answered; bad ones keep their key."""
    request_id = fresh_id("odd-key")
    await send(pipeline, json.dumps(request_body(request_id)).encode(), key=key)
    source = await send(pipeline, BAD, key=key)
    letter = await pipeline.topics.dead_letter(source)

    assert (await pipeline.topics.response(request_id)).status == "completed"
    assert (None if letter.key is None else letter.key.bytes()) == key


@pytest.mark.parametrize(
    "timestamp_ms", [-1, 0, 1, -(2**40), -(2**62), 9_214_646_400_000, 2**53, 2**62]
)
async def test_a_record_of_any_time_is_dealt_with(pipeline: Pipeline, timestamp_ms: int) -> None:
    """What cannot be a time is no reason to stop, or to let a request expire."""
    request_id = fresh_id("odd-time")
    value = json.dumps(request_body(request_id)).encode()
    home = home_of(pipeline, request_id)
    try:
        await send(pipeline, value, timestamp_ms=timestamp_ms, partition=home)
    except KafkaError as error:
        pytest.skip(f"the broker takes no such time: {type(error).__name__}")
    source = await send(pipeline, BAD, timestamp_ms=timestamp_ms)
    letter = await pipeline.topics.dead_letter(source)
    r = await pipeline.topics.response(request_id)

    assert letter.timestamp is None
    assert letter.value is not None
    assert letter.value.bytes() == BAD
    assert r.status == "completed"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_any_compression_will_do(pipeline: Pipeline, codec: str) -> None:
    """Each codec that Kafka knows, good and bad records in one batch."""
    asked = []
    async with client_producer(pipeline.broker, compression=codec) as producer:
        sending = []
        for number in range(20):
            request_id = fresh_id(f"odd-{codec}")
            body = request_body(request_id)
            asked.append(request_id)
            sending.append(send_request(producer, pipeline.requests, body))
            sending.append(send_request(producer, pipeline.requests, BAD + b"%d" % number))
        places = await asyncio.gather(*sending)

    for request_id in asked:
        assert (await pipeline.topics.response(request_id)).status == "completed"
    for number, source in enumerate(places[1::2]):
        letter = await pipeline.topics.dead_letter(source)
        assert letter.value is not None
        assert letter.value.bytes() == BAD + b"%d" % number
