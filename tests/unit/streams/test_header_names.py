"""Fetches with headers whose names are any bytes: read whole, in order, like others."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_records import RawName

from millrace.streams.header_names import HeaderName, read_any_header_name

PLACE = TopicPartition("llm.requests", 0)
NAMES = st.one_of(st.just(b"schema"), st.binary(max_size=12))
RECORDS = st.tuples(
    st.one_of(st.none(), st.binary(max_size=5)),
    st.one_of(st.none(), st.binary(max_size=20)),
    st.lists(st.tuples(NAMES, st.one_of(st.none(), st.binary(max_size=5))), max_size=3),
)


@pytest.fixture(autouse=True)
def _patched() -> None:
    read_any_header_name()


def fetched(batches: Sequence[Sequence[Any]], codec: int = 0) -> bytes:
    """The bytes of a fetch: batches of records (key, value, headers)."""
    data, base = b"", 0
    for records in batches:
        builder = _DefaultRecordBatchBuilderPy(
            magic=2,
            compression_type=codec,
            is_transactional=0,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=0,
            batch_size=1_000_000,
        )
        for number, (key, value, headers) in enumerate(records):
            named = [(RawName(name), content) for name, content in headers]
            builder.append(number, 1_772_366_400_000, key, value, named)
        built = bytes(builder.build())
        # The broker fills in the offset of a batch.
        data += base.to_bytes(8, "big") + built[8:]
        base += len(records)
    return data


def read(data: bytes, *, at: int = 0) -> list[Any]:
    """What a consumer is given of a fetch."""
    records = fetcher.MemoryRecords(data)
    check_crcs, isolation = True, "read_uncommitted"
    return list(
        fetcher.PartitionRecords(PLACE, records, None, at, None, None, check_crcs, isolation)
    )


@given(
    st.lists(st.lists(RECORDS, min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from([0, 1, 2, 3, 4]),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_every_record_is_read_once_in_order(
    batches: list[list[Any]], codec: int, data: st.DataObject
) -> None:
    """In any compression, with key, value and headers as they were."""
    written = [record for batch in batches for record in batch]
    # A broker sends whole batches, from the one on in which the offset lies.
    at = data.draw(st.integers(0, len(batches[0]) - 1))
    found = read(fetched(batches, codec), at=at)

    assert [each.offset for each in found] == list(range(at, len(written)))
    assert [(each.key, each.value, exact(each.headers)) for each in found] == [
        (key, value, headers) for key, value, headers in written[at:]
    ]


def exact(headers: Sequence[tuple[str, bytes | None]]) -> list[tuple[bytes, bytes | None]]:
    """Names as bytes."""
    return [
        (name.raw if isinstance(name, HeaderName) else name.encode(), value)
        for name, value in headers
    ]


def test_a_name_is_readable_as_far_as_it_can_be() -> None:
    """It stands in logs and dead letters, and has to be text."""
    name = HeaderName(b"ab\xffcd")

    assert name == "ab\ufffdcd"
    assert name.raw == b"ab\xffcd"


def test_what_is_broken_otherwise_is_refused_as_ever() -> None:
    """Bytes that were damaged are nobody's record."""
    data = bytearray(fetched([[(None, b"value", [])]]))
    data[-3] ^= 0xFF

    with pytest.raises(CorruptRecordException):
        read(bytes(data))
