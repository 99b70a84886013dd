"""When a provider says to come back."""

from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.retry_hints import retry_after_seconds

_NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "Fri, 01 May 2026 12:00:30 GMT"}, 30),
        ({"Retry-After": "Fri, 01 May 2026 11:00:00 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "nan"}, None),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-05-01T12:00:11Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-05-01T12:00:42+00:00",
                "anthropic-ratelimit-output-tokens-remaining": "900",
                "anthropic-ratelimit-output-tokens-reset": "2026-05-01T13:00:00Z",
            },
            42,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "6m0.5s",
                "x-ratelimit-remaining-tokens": "12",
                "x-ratelimit-reset-tokens": "1h",
            },
            360.5,
        ),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "later"}, None),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "tomorrow",
            },
            None,
        ),
    ],
)
def test_the_wait_is_read_from_the_headers(headers: dict[str, str], seconds: float | None) -> None:
    """Every vendor's form; only limits that are used up count."""
    assert retry_after_seconds(httpx.Headers(headers), now=_NOW) == (
        None if seconds is None else pytest.approx(seconds)
    )


@settings(max_examples=60)
@given(text=st.text(max_size=30))
def test_no_header_value_upsets_the_reader(text: str) -> None:
    """Nonsense is no hint; a wait is never negative."""
    headers = {"retry-after": text, "x-ratelimit-remaining-tokens": "0"}

    wait = retry_after_seconds({**headers, "x-ratelimit-reset-tokens": text}, now=_NOW)

    assert wait is None or wait >= 0
