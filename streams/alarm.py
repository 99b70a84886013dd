"""A timer for what wants to be looked at again, by several reasons at once."""

import asyncio
from collections.abc import Callable

from millrace.providers.running_loop import running_loop


class Alarm:
    """Calls `ring` once, after the shortest of the times that were asked for since it last did."""

    __slots__ = ("_ring", "_timer")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        """Ring after so many seconds, or sooner where that was asked for."""
        loop = running_loop()
        timer = self._timer
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timer = loop.call_later(seconds, self._over)

    def off(self) -> None:
        """Ring no more, until it is asked to again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        self._timer = None
        self._ring()
