"""Times as they are typed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.schemas.errors import ConfigurationError
from millrace.streams.cli.moments import parse_moment, parse_start

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("10m", NOW - timedelta(minutes=10)),
        ("1.5h", NOW - timedelta(hours=1.5)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T14:00", datetime(2026, 11, 20, 14, tzinfo=UTC)),
        ("2026-11-20T14:00+02:00", datetime(2026, 11, 20, 12, tzinfo=UTC)),
        ("2026-11-20T14:00Z", datetime(2026, 11, 20, 14, tzinfo=UTC)),
    ],
)
def test_a_moment_is_an_iso_time_or_how_long_ago(text: str, expected: datetime) -> None:
    """Naive times are UTC."""
    assert expected == parse_moment(text, now=NOW)


@pytest.mark.parametrize("text", ["", "soon", "10 minutes", "-5m", "999999999w", "2026-13-01"])
def test_what_is_no_time_is_refused_with_the_forms_that_are(text: str) -> None:
    """The sentence says what was given and what may be given."""
    with pytest.raises(ConfigurationError, match="is no time: give an ISO time") as failure:
        parse_moment(text, now=NOW)

    assert repr(text) in failure.value.message


@given(moment=st.datetimes(timezones=st.just(UTC)))
@settings(max_examples=50)
def test_an_iso_time_is_read_as_what_it_says(moment: datetime) -> None:
    """Whatever `isoformat` writes is read back."""
    assert moment == parse_moment(moment.isoformat(), now=NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("beginning", "beginning"), ("end", "end"), ("42", 42), ("1h", NOW - timedelta(hours=1))],
)
def test_a_start_is_an_end_of_the_topic_an_offset_or_a_time(text: str, expected: object) -> None:
    """Digits alone are an offset."""
    assert expected == parse_start(text, now=NOW).at


def test_what_is_no_start_is_refused() -> None:
    """The sentence lists everything that may be given."""
    with pytest.raises(ConfigurationError, match="beginning, end or an offset, or an ISO time"):
        parse_start("later", now=NOW)
