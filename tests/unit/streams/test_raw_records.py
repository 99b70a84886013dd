"""What is believed of a record's time."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streams.dead_letters import RawRecord
from millrace.streams.raw_records import raw_record

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def read(timestamp_ms: int) -> RawRecord:
    """A record with this time, read now."""
    record = SimpleNamespace(
        topic="llm.requests",
        partition=0,
        offset=0,
        timestamp=timestamp_ms,
        key=None,
        value=b"{}",
        headers=(),
    )
    return raw_record(record, clock=NOW.timestamp)


@pytest.mark.parametrize(
    "told",
    [
        datetime(2016, 1, 1, tzinfo=UTC),
        datetime(2026, 2, 1, tzinfo=UTC),
        NOW,
        datetime(2026, 3, 1, 13, tzinfo=UTC),
    ],
)
def test_a_time_that_can_be_one_is_believed(told: datetime) -> None:
    """However long the record has waited, and if a clock is a little ahead."""
    found = read(round(told.timestamp() * 1000))

    assert (found.timestamp, found.timed) == (told, True)


@pytest.mark.parametrize(
    "told_ms",
    [-1, 0, 1_772_366_400, 9_214_646_400_000, round(NOW.timestamp() * 1000) + 3_600_001],
    ids=["none", "no clock", "in seconds", "the year 2262", "more than an hour ahead"],
)
def test_a_time_that_cannot_be_one_is_that_of_reading(told_ms: int) -> None:
    """Its deadline would have passed, or would never pass."""
    found = read(told_ms)

    assert (found.timestamp, found.timed) == (NOW, False)


@given(st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=200, deadline=None)
def test_no_number_that_fits_stops_the_reading(told_ms: int) -> None:
    """Whatever 64 bits a client writes."""
    found = read(told_ms)

    assert found.timestamp <= datetime(2026, 3, 1, 13, tzinfo=UTC)
