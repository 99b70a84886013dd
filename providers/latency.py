"""How long something takes, on a moving average that follows the clock."""

import math
from collections.abc import Callable

_MEMORY_SECONDS = 30.0
"""A measurement counts for a third of what it did after this time."""
_FORGOTTEN_SECONDS = 600.0
"""What was measured so long ago says nothing of now."""


class LatencyAverage:
    """An average over what was measured lately, in the unit of the measurements.

    Of many measurements in a short time each counts little; after a pause the next one counts
    nearly alone. `now` gives seconds that never go back.
    """

    __slots__ = ("_at", "_now", "_value")

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._value: float | None = None
        self._at = -math.inf

    def add(self, value: float) -> None:
        """Take a measurement in."""
        now = self._now()
        if self._value is None:
            self._value, self._at = value, now
            return
        # Calls that end in the same moment share it: the least weight is that of one in twenty.
        fresh = max(0.05, 1.0 - math.exp((self._at - now) / _MEMORY_SECONDS))
        self._value += fresh * (value - self._value)
        self._at = now

    @property
    def value(self) -> float | None:
        """The average; None if nothing was measured for ten minutes."""
        return self._value if self._now() - self._at < _FORGOTTEN_SECONDS else None
