"""An end to the work on a call: when its time is up, or when somebody stops it."""

import asyncio
from typing import Literal

from millrace.providers.running_loop import running_loop

Cause = Literal["expired", "stopped"]


class CallLimit:
    """Cancels the task that made it after so many seconds, or when told to; once at most.

    As `asyncio.timeout`, at a third of its cost. The task asks `cause` when it is cancelled, and
    closes the limit in any case.
    """

    __slots__ = ("_cancelled", "_cancelling", "_cause", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        loop = running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a limit belongs to a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._cancelled = False
        self._cause: Cause | None = None
        self._timer = loop.call_later(max(0.0, seconds), self._end, "expired")

    def stop(self) -> None:
        """End the work now, unless it is ending already."""
        self._end("stopped")

    def cause(self) -> Cause | None:
        """Why the work was cancelled; None where it was somebody else's doing, too."""
        return self._cause if self._take_back() else None

    def close(self) -> None:
        """Let go of the task; what it was cancelled for is over."""
        self._timer.cancel()
        self._take_back()

    def _end(self, cause: Cause) -> None:
        if self._cause is None:
            self._cause = cause
            self._timer.cancel()
            self._cancelled = True
            self._task.cancel()

    def _take_back(self) -> bool:
        """Take our cancellation back; False where there is none, or another besides."""
        if not self._cancelled:
            return False
        self._cancelled = False
        return self._task.uncancel() <= self._cancelling
