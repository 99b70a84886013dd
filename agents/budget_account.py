"""The sums of a budget, and what it holds for each call."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_UP, Context, Decimal

from millrace.schemas.budget import BudgetWindow

_EXACT = Context(prec=60)
_FINEST = Decimal(1).scaleb(-12)
_HIGHEST = Decimal(1).scaleb(15)
"""Amounts between these add up exactly in 60 digits, however many there are."""
_MOST_TOKENS = 10**12
"""Of one call, so that sums fit the 64 bits in which they are stored."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """US dollars and tokens; sums are exact."""

    usd: Decimal = Decimal(0)
    tokens: int = 0

    @classmethod
    def of(cls, usd: Decimal | None, tokens: int) -> "Amounts":
        """Count an amount, fractions of a trillionth of a dollar rounded up; unknown is 0."""
        counted = min(usd or Decimal(0), _HIGHEST)
        rounded = counted.quantize(_FINEST, rounding=ROUND_UP, context=_EXACT)
        return cls(counted if rounded == counted else rounded, min(tokens, _MOST_TOKENS))

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(_EXACT.add(self.usd, other.usd), self.tokens + other.tokens)

    def __sub__(self, other: "Amounts") -> "Amounts":
        return Amounts(_EXACT.subtract(self.usd, other.usd), self.tokens - other.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The sums of a budget."""

    window: date
    """The first day of the current window."""
    spent: Amounts = Amounts()
    reserved: Amounts = Amounts()
    """The sum of the open holds."""
    alerted: Decimal = Decimal(0)
    """The highest share that was announced in this window."""
    applied: int = -1
    """Offset of the last record that is in these sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What is known of one claim."""

    amounts: Amounts
    due: float
    """Seconds since the epoch. If it is open then, the call counts as lost."""
    granted: int
    """Offset of the record that made it; so are the others."""
    lapsed: int | None = None
    """Where it counted as lost, and its amounts as spent."""
    ended: int | None = None
    released: bool = False
    invocation: str | None = None
    """By which it was settled."""
    kept_until: float = 0.0
    """Seconds since the epoch. Once it is not open: when it may be forgotten."""

    @property
    def open(self) -> bool:
        """Whether it is among what is reserved."""
        return self.ended is None and self.lapsed is None

    @property
    def until(self) -> float:
        """When it has to be looked at again."""
        return self.due if self.open else self.kept_until

    def as_of(self, applied: int) -> "Hold | None":
        """What it was when the record at this offset had been applied, and none after it."""
        if self.granted > applied:
            return None
        ended = self.ended is not None and self.ended <= applied
        lapsed = self.lapsed is not None and self.lapsed <= applied
        return replace(
            self,
            lapsed=self.lapsed if lapsed else None,
            ended=self.ended if ended else None,
            released=self.released and ended,
            invocation=self.invocation if ended else None,
        )


def window_start(at: datetime, window: BudgetWindow) -> date:
    """The first day of the window that a moment lies in, in UTC."""
    day = at.astimezone(UTC).date()
    return day if window == "day" else day.replace(day=1)


def window_end(start: date, window: BudgetWindow) -> datetime:
    """The midnight at which a window ends."""
    if window == "day":
        following = start + timedelta(days=1)
    else:
        following = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return datetime.combine(following, time(), UTC)
