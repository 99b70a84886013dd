"""What a provider says is left of its rate limits, from the headers of its reply."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from millrace.providers.retry_hints import retry_after_seconds


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit, and when it will be whole again if nothing more is asked."""

    remaining: float
    limit: float | None
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Allowances:
    """What is left; None where the headers do not say."""

    requests: Allowance | None = None
    tokens: Allowance | None = None


@dataclass(frozen=True, slots=True)
class _Names:
    """The headers of one limit."""

    remaining: str
    limit: str
    reset: str


def _openai(what: str) -> _Names:
    prefix = "x-ratelimit"
    return _Names(f"{prefix}-remaining-{what}", f"{prefix}-limit-{what}", f"{prefix}-reset-{what}")


def _anthropic(what: str) -> _Names:
    prefix = f"anthropic-ratelimit-{what}"
    return _Names(f"{prefix}-remaining", f"{prefix}-limit", f"{prefix}-reset")


_REQUESTS = (_openai("requests"), _anthropic("requests"))
_TOKENS = (
    _openai("tokens"),
    _anthropic("tokens"),
    _anthropic("input-tokens"),
    _anthropic("output-tokens"),
)


_MARK = "ratelimit"
_NOTHING_SAID = Allowances()


def read_allowances(headers: Mapping[str, str], *, now: datetime) -> Allowances:
    """Read the headers of OpenAI (and those who copy it) and of Anthropic.

    Of several token limits the one of which least is left counts. A limit without a readable
    reset is passed over: nobody could say how long to mind it.
    """
    if _MARK not in "\n".join(headers).lower():
        # Most local servers: to look for each of six limits costs more than the rest of a reply.
        return _NOTHING_SAID
    return Allowances(
        requests=_strictest(_REQUESTS, headers, now), tokens=_strictest(_TOKENS, headers, now)
    )


def _strictest(
    limits: tuple[_Names, ...], headers: Mapping[str, str], now: datetime
) -> Allowance | None:
    found = [each for names in limits if (each := _allowance(names, headers, now)) is not None]
    return min(found, key=lambda each: each.remaining, default=None)


def _allowance(names: _Names, headers: Mapping[str, str], now: datetime) -> Allowance | None:
    remaining = _count(headers.get(names.remaining))
    reset = headers.get(names.reset)
    if remaining is None or reset is None:
        return None
    # The moment or duration is read where all of them are: as if the limit were used up.
    seconds = retry_after_seconds({names.remaining: "0", names.reset: reset}, now=now)
    if seconds is None:
        return None
    return Allowance(remaining, _count(headers.get(names.limit)), seconds)


def _count(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
