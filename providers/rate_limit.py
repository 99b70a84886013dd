"""How long a call must wait so that a provider's requests and tokens a minute are kept.

Each limit is a token bucket. Several processes share one limit by each keeping to a fraction of
it. What the provider itself says is left makes it stricter, never looser.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field

from millrace.providers.rate_headers import Allowance, Allowances
from millrace.providers.token_bucket import TokenBucket
from millrace.schemas.record import Frozen

_MINUTE = 60.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_MAX_DOUBLINGS = 10


class RateLimits(Frozen):
    """What an account may ask of a provider, over all processes; unset ones do not limit."""

    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Input and output together."""
    burst_seconds: float = Field(default=1.0, gt=0, le=_MINUTE)
    """So many seconds' worth may be used at once after a pause; never less than one call."""


@dataclass(slots=True)
class Reservation:
    """The right to one call of about so many tokens; settled or released, once."""

    tokens: int
    heard_of: bool = False
    """Whether the provider's headers take it into account."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What the provider says is left, until it has said that all is well again."""

    bucket: TokenBucket
    until: float

    def delay(self, amount: float, now: float) -> float:
        return max(0.0, min(self.until - now, self.bucket.delay(amount, now)))


class RateLimiter:
    """The share of one process in the limits of one account (an entry, or one key of it).

    In any span of time no more requests begin than the rate allows for it, and one burst; the
    same holds for reserved tokens, where a call larger than a burst counts as one. A call that
    takes more tokens than it reserved is paid for by the wait of those after it.

    It never sleeps, and every operation takes constant time. Not for several threads. `now`
    gives seconds that never go back.
    """

    def __init__(self, *, limits: RateLimits, now: Callable[[], float], share: float = 1.0) -> None:
        self._now = now
        self._share = _checked(share)
        self._requests = _bucket(limits.requests_per_minute, limits, share, now())
        self._tokens = _bucket(limits.tokens_per_minute, limits, share, now())
        self._told_requests: _Told | None = None
        self._told_tokens: _Told | None = None
        self._unheard_requests = 0
        self._unheard_tokens = 0
        self._paused_until = -math.inf
        self._refusals = 0

    @property
    def share(self) -> float:
        """The fraction of the limits that this process may use, from 0 to 1.

        It changes as partitions come and go. A larger one fills up at its new speed; what a
        smaller one cannot hold is lost. Setting anything else raises `ValueError`.
        """
        return self._share

    @share.setter
    def share(self, fraction: float) -> None:
        self._share = _checked(fraction)
        now = self._now()
        for bucket in self._buckets():
            bucket.rescale(fraction, now)

    def delay(self, tokens: int) -> float:
        """Seconds until a call of about so many tokens may begin: 0 now, `inf` with no share.

        What others reserve meanwhile may make it longer.
        """
        if not self._share:
            return math.inf
        now = self._now()
        wait = max(0.0, self._paused_until - now)
        if self._requests is not None:
            wait = max(wait, self._requests.delay(1, now))
        if self._tokens is not None:
            wait = max(wait, self._tokens.delay(tokens, now))
        if self._told_requests is not None:
            wait = max(wait, self._told_requests.delay(1, now))
        if self._told_tokens is not None:
            wait = max(wait, self._told_tokens.delay(tokens, now))
        return wait

    def reserve(self, tokens: int) -> Reservation:
        """Take one request and so many tokens.

        Raises:
            ValueError: `delay` is not 0.
        """
        if (wait := self.delay(tokens)) > 0:
            raise ValueError(f"a call of {tokens} tokens may begin only in {wait:.3f} s")
        self._take(1, tokens)
        told_requests, told_tokens = self._told_requests, self._told_tokens
        if told_requests is not None:
            told_requests.bucket.take(1, self._now())
        if told_tokens is not None:
            told_tokens.bucket.take(tokens, self._now())
        self._unheard_requests += 1
        self._unheard_tokens += tokens
        return Reservation(tokens)

    def observe(self, reservation: Reservation, allowances: Allowances) -> None:
        """Note what the reply to this call says is left; this process takes its share of it.

        Calls under way that have had no reply yet are taken off: they may not be counted in it.
        """
        self._hear_of(reservation)
        if allowances.requests is not None:
            self._told_requests = self._told(allowances.requests, self._unheard_requests)
        if allowances.tokens is not None:
            self._told_tokens = self._told(allowances.tokens, self._unheard_tokens)

    def settle(self, reservation: Reservation, tokens: int) -> None:
        """End a call that took so many tokens: what it reserved too much is given back."""
        self._hear_of(reservation)
        self._take(0, tokens - reservation.tokens)
        self._refusals = 0

    def release(self, reservation: Reservation) -> None:
        """Give back a reservation whose call was never sent."""
        self._hear_of(reservation)
        self._take(-1, -reservation.tokens)

    def refused(self, reservation: Reservation, retry_after: float | None) -> None:
        """End a call that was answered with the limit, and begin nothing for so many seconds.

        Where the provider does not say for how long: 1 s at first, doubled with each refusal
        that comes after a pause, to a minute. The request counts, its tokens do not.
        """
        self._hear_of(reservation)
        self._take(0, -reservation.tokens)
        now = self._now()
        if retry_after is None:
            if now < self._paused_until:
                return
            retry_after = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0**self._refusals)
            self._refusals = min(self._refusals + 1, _MAX_DOUBLINGS)
        self._paused_until = max(self._paused_until, now + retry_after)

    def _take(self, requests: int, tokens: int) -> None:
        now = self._now()
        if self._requests is not None and requests:
            self._requests.take(requests, now)
        if self._tokens is not None and tokens:
            self._tokens.take(tokens, now)

    def _hear_of(self, reservation: Reservation) -> None:
        if not reservation.heard_of:
            reservation.heard_of = True
            self._unheard_requests -= 1
            self._unheard_tokens -= reservation.tokens

    def _told(self, allowance: Allowance, unheard: float) -> _Told | None:
        if allowance.reset_seconds <= 0:
            return None
        now = self._now()
        remaining = allowance.remaining
        # Both vendors' limits fill evenly, and say when they will be full.
        missing = 0.0 if allowance.limit is None else max(0.0, allowance.limit - remaining)
        bucket = TokenBucket(
            per_second=missing / allowance.reset_seconds,
            burst=max(remaining, allowance.limit or 0.0),
            share=self._share,
            now=now,
        )
        bucket.take(bucket.capacity - remaining * self._share + unheard, now)
        return _Told(bucket, now + allowance.reset_seconds)

    def _buckets(self) -> list[TokenBucket]:
        told = (self._told_requests, self._told_tokens)
        own = (self._requests, self._tokens)
        return [
            *(bucket for bucket in own if bucket is not None),
            *(each.bucket for each in told if each is not None),
        ]


def _bucket(
    per_minute: float | None, limits: RateLimits, share: float, now: float
) -> TokenBucket | None:
    if per_minute is None:
        return None
    per_second = per_minute / _MINUTE
    return TokenBucket(
        per_second=per_second, burst=per_second * limits.burst_seconds, share=share, now=now
    )


def _checked(share: float) -> float:
    if not 0 <= share <= 1:
        raise ValueError(f"a share is from 0 to 1, not {share!r}")
    return share
