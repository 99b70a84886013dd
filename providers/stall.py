"""Breaks off a wait that makes no progress, at almost no cost for one that does."""

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

from millrace.providers.running_loop import running_loop

T = TypeVar("T")


class StallWatch:
    """Bounds each wait of one task, one after the other.

    A timer a read would cost more than the read, so one timer serves many: when it fires it
    looks how long the current wait has lasted, and sets itself again. Nothing is ever
    cancelled between waits, so a slow consumer is not mistaken for a slow server.
    """

    __slots__ = (
        "_cancelling",
        "_fired",
        "_limit",
        "_look_at",
        "_look_within",
        "_loop",
        "_since",
        "_task",
        "_timer",
    )

    def __init__(self, *, look_within: float = math.inf) -> None:
        """Look at the first wait after `look_within` seconds at the latest.

        Given the shortest limit of all waits to come, one timer serves them all.
        """
        self._loop = running_loop()
        self._look_within = look_within
        self._look_at = 0.0
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._limit = 0.0
        self._since = 0.0
        self._cancelling = 0
        self._fired = False

    async def wait(self, awaitable: Awaitable[T], *, seconds: float) -> T:
        """Await it, but no longer than `seconds`.

        Raises:
            TimeoutError: It took longer, and was cancelled.
            asyncio.CancelledError: Somebody else cancelled the task.
        """
        self._arm(seconds)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if self._expired():
                raise TimeoutError(f"nothing came for {seconds:g} s") from None
            raise
        finally:
            self._task = None

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a wait can be watched only inside a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._since = self._loop.time()
        self._limit = seconds
        if self._timer is None:
            self._set(self._since + min(seconds, self._look_within))
        elif self._since + seconds < self._look_at:
            self._timer.cancel()
            self._set(self._since + seconds)

    def _set(self, at: float) -> None:
        self._look_at = at
        self._timer = self._loop.call_at(at, self._look)

    def _expired(self) -> bool:
        if not self._fired or self._task is None:
            return False
        self._fired = False
        # As asyncio.timeout does it: our own cancellation is taken back, and a timeout only if
        # nobody else wants the task cancelled.
        return self._task.uncancel() <= self._cancelling

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return
        due = self._since + self._limit
        if self._loop.time() >= due:
            self._fired = True
            self._task.cancel()
        else:
            self._set(due)
