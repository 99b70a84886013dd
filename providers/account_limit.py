"""What a provider says is left of its own limit for one account and one model."""

import math

from millrace.providers.rate_headers import Allowance, Allowances
from millrace.providers.token_bucket import TokenBucket

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_MAX_DOUBLINGS = 10


class _Told:
    """A limit as the last reply told it; forgotten at the time at which it is whole again."""

    __slots__ = ("bucket", "until")

    def __init__(self, allowance: Allowance, *, share: float, unheard: float, now: float) -> None:
        remaining = allowance.remaining
        # Both vendors' limits fill evenly, and say when they will be full.
        missing = 0.0 if allowance.limit is None else max(0.0, allowance.limit - remaining)
        self.bucket = TokenBucket(
            per_second=missing / allowance.reset_seconds,
            burst=max(remaining, allowance.limit or 0.0),
            share=share,
            now=now,
        )
        self.bucket.take(self.bucket.capacity - remaining * share + unheard, now)
        self.until = now + allowance.reset_seconds

    def delay(self, amount: float, now: float) -> float:
        return max(0.0, min(self.until - now, self.bucket.delay(amount, now)))


class AccountLimit:
    """The part of one process in what the provider grants an account (a key at a server).

    Nothing is limited until a reply says something. Times are in seconds and never go back.
    """

    __slots__ = (
        "_paused_until",
        "_refusals",
        "_requests",
        "_share",
        "_tokens",
        "_unheard_requests",
        "_unheard_tokens",
        "name",
    )

    def __init__(self, name: str, *, share: float) -> None:
        self.name = name
        self._share = share
        self._requests: _Told | None = None
        self._tokens: _Told | None = None
        self._unheard_requests = 0
        self._unheard_tokens = 0
        self._paused_until = -math.inf
        self._refusals = 0

    def delay(self, tokens: int, now: float) -> float:
        """Seconds until a call of about so many tokens may be sent; 0 now."""
        wait = self._paused_until - now
        if self._requests is not None:
            wait = max(wait, self._requests.delay(1, now))
        if self._tokens is not None:
            wait = max(wait, self._tokens.delay(tokens, now))
        return max(wait, 0.0)

    def take(self, tokens: int, now: float) -> None:
        """Count a call that will be sent."""
        self._unheard_requests += 1
        self._unheard_tokens += tokens
        self._spend(1, tokens, now)

    def give_back(self, tokens: int, now: float) -> None:
        """Undo `take`: the call is not sent, or to another account."""
        self.hear(tokens)
        self._spend(-1, -tokens, now)

    def hear(self, tokens: int) -> None:
        """Note that a call was answered: what the next reply says is left has it counted."""
        self._unheard_requests -= 1
        self._unheard_tokens -= tokens

    def observe(self, allowances: Allowances, now: float) -> None:
        """Note what a reply says is left; this process may have its share of it.

        Calls that had no reply yet are taken off: they may not be counted in it.
        """
        if allowances.requests is not None:
            self._requests = self._told(allowances.requests, self._unheard_requests, now)
        if allowances.tokens is not None:
            self._tokens = self._told(allowances.tokens, self._unheard_tokens, now)

    def refuse(self, retry_after: float | None, now: float) -> None:
        """Send nothing for so many seconds.

        Where the provider does not say for how long: 1 s at first, doubled with each refusal
        that comes after a pause, to a minute.
        """
        if retry_after is None:
            if now < self._paused_until:
                return
            retry_after = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0**self._refusals)
            self._refusals = min(self._refusals + 1, _MAX_DOUBLINGS)
        self._paused_until = max(self._paused_until, now + retry_after)

    def answered(self) -> None:
        """Note that a call was not refused: the next pause is a short one again."""
        self._refusals = 0

    def rescale(self, share: float, now: float) -> None:
        """Change this process's share."""
        self._share = share
        for told in (self._requests, self._tokens):
            if told is not None:
                told.bucket.rescale(share, now)

    def _spend(self, requests: int, tokens: int, now: float) -> None:
        if self._requests is not None:
            self._requests.bucket.take(requests, now)
        if self._tokens is not None:
            self._tokens.bucket.take(tokens, now)

    def _told(self, allowance: Allowance, unheard: float, now: float) -> _Told | None:
        if allowance.reset_seconds <= 0:
            return None
        return _Told(allowance, share=self._share, unheard=unheard, now=now)
