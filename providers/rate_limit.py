"""How long a call must wait so that a provider's requests and tokens a minute are kept.

The limits that the operator sets hold for an entry as a whole, and are shared among processes by
each keeping to a fraction. What the provider itself says, by headers and by refusals, holds for
the account and the model of the call, because that is how vendors count. It makes the limits
stricter, never looser.
"""

import math
from collections.abc import Callable, Sequence

from pydantic import Field

from millrace.providers.account_limit import AccountLimit
from millrace.providers.rate_headers import Allowances
from millrace.providers.token_bucket import TokenBucket
from millrace.schemas.record import Frozen

_MINUTE = 60.0


class RateLimits(Frozen):
    """What an entry may ask of its provider, over all processes; unset ones do not limit."""

    requests_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    tokens_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Input and output together."""
    burst_seconds: float = Field(default=1.0, gt=0, le=_MINUTE)
    """So many seconds' worth may be used at once after a pause; never less than one call."""


class Reservation:
    """The right to make one call of about so many tokens, until its limiter has ended it.

    Implements `Quota`: the adapter that sends the call tells it where to, and what the reply's
    headers say.
    """

    __slots__ = ("_limiter", "account", "heard", "model", "over", "sent", "tokens")

    def __init__(
        self, limiter: "RateLimiter", *, model: str, tokens: int, account: AccountLimit
    ) -> None:
        self._limiter = limiter
        self.model = model
        self.tokens = tokens
        self.account = account
        self.heard = False
        self.sent = False
        self.over = False

    def may_use(self, account: str) -> bool:
        """Whether this account has room for the call."""
        return account == self.account.name or self._limiter.open_at(account, self)

    def sent_to(self, account: str) -> None:
        """Note that the call goes out now, by this account."""
        self.sent = True
        if account != self.account.name:
            self._limiter.move(self, account)

    def observe(self, allowances: Allowances) -> None:
        """Note what the reply says is left."""
        self._limiter.observe(self, allowances)


class RateLimiter:
    """The share of one process in the limits of one provider entry.

    In any span of time no more requests begin than the rate allows for it, and one burst; the
    same holds for reserved tokens, where a call larger than a burst counts as one. A call that
    takes more tokens than it reserved is paid for by the wait of those after it.

    It never sleeps, and every operation takes constant time for a given number of accounts. Not
    for several threads. `now` gives seconds that never go back. `accounts` are the names of the
    servers and keys that calls are spread over.
    """

    def __init__(
        self,
        *,
        limits: RateLimits,
        now: Callable[[], float],
        accounts: Sequence[str] = ("",),
        share: float = 1.0,
    ) -> None:
        self._now = now
        self._limits = limits
        self._share = _checked(share)
        self._names = tuple(accounts)
        self._requests = _bucket(limits.requests_per_minute, limits, share, now())
        self._tokens = _bucket(limits.tokens_per_minute, limits, share, now())
        self._accounts: dict[str, tuple[AccountLimit, ...]] = {}
        """By model."""

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
        for bucket in (self._requests, self._tokens):
            if bucket is not None:
                bucket.rescale(fraction, now)
        for accounts in self._accounts.values():
            for account in accounts:
                account.rescale(fraction, now)

    def renew(self, *, limits: RateLimits, accounts: Sequence[str]) -> None:
        """Keep to other limits, or spread calls over other accounts, from now on.

        New limits begin with nothing saved up, and of new accounts nothing is known.
        """
        now = self._now()
        if _rates(limits) != _rates(self._limits):
            self._limits = limits
            self._requests = _bucket(limits.requests_per_minute, limits, self._share, now)
            self._tokens = _bucket(limits.tokens_per_minute, limits, self._share, now)
        if tuple(accounts) != self._names:
            self._names = tuple(accounts)
            self._accounts.clear()

    def delay(self, model: str, tokens: int) -> float:
        """Seconds until a call of about so many tokens may begin: 0 now, `inf` with no share.

        What others reserve meanwhile may make it longer.
        """
        return max(self.entry_delay(tokens), self.model_delay(model, tokens))

    def entry_delay(self, tokens: int) -> float:
        """The same by the operator's limits alone, which every model has to keep."""
        if not self._share:
            return math.inf
        wait = 0.0
        if self._requests is not None:
            wait = self._requests.delay(1, self._now())
        if self._tokens is not None:
            wait = max(wait, self._tokens.delay(tokens, self._now()))
        return wait

    def model_delay(self, model: str, tokens: int) -> float:
        """The same by what the provider says of this model: of all accounts the soonest."""
        accounts = self._accounts.get(model)
        if accounts is None:
            return 0.0
        now = self._now()
        if len(accounts) == 1:
            return accounts[0].delay(tokens, now)
        return min(account.delay(tokens, now) for account in accounts)

    def reserve(self, model: str, tokens: int) -> Reservation:
        """Take one request and so many tokens.

        Raises:
            ValueError: `delay` is not 0.
        """
        if (wait := self.delay(model, tokens)) > 0:
            raise ValueError(f"a call of {tokens} tokens may begin only in {wait:.3f} s")
        return self._reserve(model, tokens)

    def reserve_ahead(self, model: str, tokens: int) -> tuple[Reservation, float]:
        """Take them now for a call that begins after so many seconds; others wait behind it."""
        wait = self.delay(model, tokens)
        return self._reserve(model, tokens), wait

    def settle(self, reservation: Reservation, tokens: int) -> None:
        """End a call that took so many tokens: what it reserved too much is given back."""
        if self._end(reservation):
            self._take(0, tokens - reservation.tokens)
            reservation.account.answered()

    def release(self, reservation: Reservation) -> None:
        """Give back a reservation whose call was never sent."""
        if reservation.over:
            return
        reservation.over = True
        if not reservation.heard:
            reservation.heard = True
            reservation.account.give_back(reservation.tokens, self._now())
        self._take(-1, -reservation.tokens)

    def refused(self, reservation: Reservation, retry_after: float | None) -> None:
        """End a call that was answered with the limit; its model rests at that account.

        The request counts, its tokens do not.
        """
        if self._end(reservation):
            self._take(0, -reservation.tokens)
            reservation.account.refuse(retry_after, self._now())

    def observe(self, reservation: Reservation, allowances: Allowances) -> None:
        """Note what the reply to this call says is left at its account for its model."""
        self._hear_of(reservation)
        reservation.account.observe(allowances, self._now())

    def open_at(self, account: str, reservation: Reservation) -> bool:
        """Whether the account has room for the call."""
        found = self._account(reservation.model, account)
        return found.delay(reservation.tokens, self._now()) <= 0

    def move(self, reservation: Reservation, account: str) -> None:
        """Count the call at another account than was thought."""
        now = self._now()
        reservation.account.give_back(reservation.tokens, now)
        reservation.account = self._account(reservation.model, account)
        reservation.account.take(reservation.tokens, now)

    def _reserve(self, model: str, tokens: int) -> Reservation:
        self._take(1, tokens)
        now = self._now()
        accounts = self._accounts_of(model)
        account = accounts[0]
        if len(accounts) > 1:
            account = min(accounts, key=lambda each: each.delay(tokens, now))
        account.take(tokens, now)
        return Reservation(self, model=model, tokens=tokens, account=account)

    def _accounts_of(self, model: str) -> tuple[AccountLimit, ...]:
        accounts = self._accounts.get(model)
        if accounts is None:
            accounts = self._accounts[model] = tuple(
                AccountLimit(name, share=self._share) for name in self._names
            )
        return accounts

    def _account(self, model: str, name: str) -> AccountLimit:
        accounts = self._accounts_of(model)
        return next((each for each in accounts if each.name == name), accounts[0])

    def _take(self, requests: int, tokens: int) -> None:
        if self._requests is not None and requests:
            self._requests.take(requests, self._now())
        if self._tokens is not None and tokens:
            self._tokens.take(tokens, self._now())

    def _end(self, reservation: Reservation) -> bool:
        """Whether it was not ended yet."""
        if reservation.over:
            return False
        reservation.over = True
        self._hear_of(reservation)
        return True

    def _hear_of(self, reservation: Reservation) -> None:
        if not reservation.heard:
            reservation.heard = True
            reservation.account.hear(reservation.tokens)


def _bucket(
    per_minute: float | None, limits: RateLimits, share: float, now: float
) -> TokenBucket | None:
    if per_minute is None:
        return None
    per_second = per_minute / _MINUTE
    return TokenBucket(
        per_second=per_second, burst=per_second * limits.burst_seconds, share=share, now=now
    )


def _rates(limits: RateLimits) -> tuple[float | None, ...]:
    return limits.requests_per_minute, limits.tokens_per_minute, limits.burst_seconds


def _checked(share: float) -> float:
    if not 0 <= share <= 1:
        raise ValueError(f"a share is from 0 to 1, not {share!r}")
    return share
