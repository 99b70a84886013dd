"""Which partition a request belongs on."""

from datetime import UTC, datetime

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_records import EPOCH, make_raw

from millrace.schemas.ids import request_id_at
from millrace.streams.routing_key import (
    ORIGIN_HEADER,
    Origin,
    origin_of,
    partition_of,
    was_moved,
)


@given(key=st.binary(max_size=40), partitions=st.integers(1, 64))
@settings(max_examples=200, deadline=None)
def test_it_is_that_of_kafka_s_default_partitioner(key: bytes, partitions: int) -> None:
    """As Java's and aiokafka's producers choose it."""
    every = list(range(partitions))

    assert partition_of(key, partitions) == DefaultPartitioner()(key, every, every)


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_it_agrees_with_the_hashes_that_kafka_s_own_tests_expect(key: bytes, murmur2: int) -> None:
    """Apache Kafka, `UtilsTest.testMurmur2`."""
    assert partition_of(key, 11) == (murmur2 & 0x7FFFFFFF) % 11


@given(
    topic=st.from_regex(r"[a-zA-Z0-9._-]{1,60}", fullmatch=True),
    partition=st.integers(0, 10_000),
    offset=st.integers(0, 10**18 - 1),
    millis=st.integers(10**12, 7_000_000_000_000),
)
@settings(max_examples=100, deadline=None)
def test_the_origin_of_a_moved_request_survives_the_move(
    topic: str, partition: int, offset: int, millis: int
) -> None:
    """To the millisecond, which is all that Kafka keeps."""
    origin = Origin(topic, partition, offset, datetime.fromtimestamp(millis / 1000, UTC))
    headers = (("other", b"x"), origin.header())
    moved = make_raw(b"{}", topic=topic, headers=headers)

    assert was_moved(moved)
    assert origin_of(moved) == origin


def test_a_record_that_was_not_moved_is_its_own_origin() -> None:
    """And its id derives from where it lies."""
    origin = origin_of(make_raw(b"{}", partition=1, offset=7))

    assert origin == Origin("llm.requests", 1, 7, EPOCH)
    assert origin.request_id() == request_id_at("llm.requests", 1, 7)


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"a/b",
        b"llm.requests/x/1/1772366400000",
        b"llm.requests/0/1/99999999999999999999",
        b"llm.requests/0/1/2",
        b"llm.requests/99999999999/1/1772366400000",
        b"llm.requests/0/99999999999999999999/1772366400000",
        b"another.topic/0/1/1772366400000",
        b"\xff/0/1/1772366400000",
    ],
)
def test_a_header_that_makes_no_sense_is_no_origin(header: bytes | None) -> None:
    """Anybody may write headers."""
    record = make_raw(b"{}", offset=3, headers=((ORIGIN_HEADER, header),))

    assert not was_moved(record)
    assert origin_of(record) == Origin("llm.requests", 0, 3, EPOCH)
