"""A token bucket: so many a second, and so many at once."""

_NEARLY = 1e-9
"""What is missing by less than this part is rounding."""


class TokenBucket:
    """Fills evenly and never above its capacity; full at first.

    A bucket may be shared out: it fills `share` times as fast and holds `share` times as much,
    though never less than 1. A single amount above the capacity may be taken from a full bucket,
    which is then in debt for as long as it takes to fill up again. Times are in seconds, and
    never go back.
    """

    __slots__ = ("_at", "_burst", "_level", "_per_second", "_share")

    def __init__(self, *, per_second: float, burst: float, share: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._share = share
        self._at = now
        self._level = self.capacity

    @property
    def capacity(self) -> float:
        """The most that it holds."""
        return max(1.0, self._burst * self._share) if self._share else 0.0

    @property
    def rate(self) -> float:
        """How much comes in each second."""
        return self._per_second * self._share

    def level(self, now: float) -> float:
        """What is in it; below 0 in debt."""
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self.rate)
            self._at = now
        return self._level

    def delay(self, amount: float, now: float) -> float:
        """Seconds until the amount may be taken; `inf` when nothing comes in."""
        needed = min(amount, self.capacity)
        missing = needed - self.level(now)
        if missing <= _NEARLY * max(1.0, needed) and self._share:
            return 0.0
        rate = self.rate
        return missing / rate if rate else float("inf")

    def take(self, amount: float, now: float) -> None:
        """Take the amount, whatever is there; a negative one is put back."""
        self._level = min(self.capacity, self.level(now) - amount)

    def rescale(self, share: float, now: float) -> None:
        """Change the share; nothing is gained at once, and what no longer fits is lost."""
        self.level(now)
        self._share = share
        self._level = min(self.capacity, self._level)
