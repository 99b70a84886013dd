"""When a provider says to come back, from the headers of its reply."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
_GO_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|ns|[dhms]))+")
_GO_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns|[dhms])")
_ANTHROPIC = tuple(
    f"anthropic-ratelimit-{what}"
    for what in ("requests", "tokens", "input-tokens", "output-tokens")
)
_OPENAI = ("requests", "tokens")


def retry_after_seconds(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds to wait, never negative; None when no header says.

    `retry-after-ms` and `Retry-After` (seconds or an HTTP date, RFC 9110 section 10.2.3) come
    first. Else the latest reset of a rate limit that the headers call used up: RFC 3339 moments
    from Anthropic, durations such as `6m0.5s` from OpenAI.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    told = headers.get("retry-after")
    if told is not None:
        seconds = _number(told)
        seconds = _until(_http_date(told), now) if seconds is None else seconds
        if seconds is not None:
            return seconds
    waits = [
        _until(_rfc3339(headers.get(f"{name}-reset")), now)
        for name in _ANTHROPIC
        if headers.get(f"{name}-remaining") == "0"
    ]
    waits += [
        _go_duration(headers.get(f"x-ratelimit-reset-{what}"))
        for what in _OPENAI
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) and value >= 0 else None


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _rfc3339(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo else None


def _until(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def _go_duration(text: str | None) -> float | None:
    if text is None or not _GO_DURATION.fullmatch(text):
        return _number(text)
    return sum(float(amount) * _UNITS[unit] for amount, unit in _GO_PART.findall(text))
