"""The rate limits of a simulated provider, kept as vendors keep theirs.

A token bucket for each instance and key: so many a minute come in evenly, and so many seconds'
worth may be taken at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from millrace.schemas.record import Frozen

_MINUTE = 60.0
_KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")


class QuotaSettings(Frozen):
    """What the calls with one key may take; unset ones do not limit."""

    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    """The prompt's and the answer's, counted when the call comes."""
    burst_seconds: Annotated[float, Field(gt=0, le=_MINUTE)] = _MINUTE
    """So many seconds' worth may be taken at once."""


@dataclass(slots=True)
class Level:
    """One limit as it stands."""

    limit: float
    """The most that it holds."""
    per_second: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        """Let come in what has come since the last time."""
        self.left = min(self.limit, self.left + (now - self.at) * self.per_second)
        self.at = now

    @property
    def full_in(self) -> float:
        """Seconds until it is whole again."""
        return (self.limit - self.left) / self.per_second


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether a call may go, and what is left after it."""

    retry_after: float | None
    """Seconds after which a refused call may come again; None for one that may go."""
    requests: Level | None
    tokens: Level | None


class Quota:
    """Rules on the calls of all instances; `elapsed` gives seconds that never go back."""

    def __init__(self, *, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._levels: dict[tuple[str, str], tuple[Level | None, Level | None]] = {}

    def rule(self, settings: QuotaSettings, *, instance: str, key: str, tokens: int) -> Ruling:
        """Take one request and so many tokens, or nothing where either is short."""
        now = self._elapsed()
        levels = self._levels.get((instance, key))
        if levels is None:
            levels = self._levels[instance, key] = (
                _level(settings.requests_per_minute, settings.burst_seconds, now),
                _level(settings.tokens_per_minute, settings.burst_seconds, now),
            )
        wait = 0.0
        for level, amount in zip(levels, (1, tokens), strict=True):
            if level is not None:
                level.fill(now)
                wait = max(wait, (min(amount, level.limit) - level.left) / level.per_second)
        if wait > 0:
            return Ruling(wait, *levels)
        for level, amount in zip(levels, (1, tokens), strict=True):
            if level is not None:
                level.left -= amount
        return Ruling(None, *levels)


def key_of(headers: Mapping[str, str]) -> str:
    """What tells accounts apart: the key that a request bears."""
    lowered = {name.lower(): value for name, value in headers.items()}
    return next((lowered[name] for name in _KEY_HEADERS if name in lowered), "")


def openai_headers(ruling: Ruling) -> dict[str, str]:
    """What is left, as OpenAI and those who copy it say it."""
    headers = {}
    for what, level in (("requests", ruling.requests), ("tokens", ruling.tokens)):
        if level is not None:
            headers[f"x-ratelimit-limit-{what}"] = f"{level.limit:.0f}"
            headers[f"x-ratelimit-remaining-{what}"] = f"{max(0, int(level.left))}"
            headers[f"x-ratelimit-reset-{what}"] = f"{level.full_in:.3f}s"
    return headers


def anthropic_headers(ruling: Ruling, *, now: float) -> dict[str, str]:
    """What is left, as Anthropic says it; `now` in seconds since the epoch."""
    headers = {}
    for what, level in (("requests", ruling.requests), ("tokens", ruling.tokens)):
        if level is not None:
            reset = datetime.fromtimestamp(now + level.full_in, UTC)
            prefix = f"anthropic-ratelimit-{what}"
            headers[f"{prefix}-limit"] = f"{level.limit:.0f}"
            headers[f"{prefix}-remaining"] = f"{max(0, int(level.left))}"
            headers[f"{prefix}-reset"] = reset.isoformat().replace("+00:00", "Z")
    return headers


def _level(per_minute: float | None, burst_seconds: float, now: float) -> Level | None:
    if per_minute is None:
        return None
    per_second = per_minute / _MINUTE
    limit = max(1.0, per_second * burst_seconds)
    return Level(limit, per_second, limit, now)
