"""The attempts that a process makes and has made: each of them once, however often it is read."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from millrace.providers.running_loop import running_loop


class Attempts:
    """Makes an attempt once as long as it is remembered.

    A call is on its topic twice when whoever wrote it did not hear that it had been taken, and
    read twice when its partition went away and came back.
    """

    def __init__(self, *, remembered: int) -> None:
        self._remembered = remembered
        self._running: dict[str, asyncio.Task[object]] = {}
        self._made: OrderedDict[str, None] = OrderedDict()

    def is_running(self, attempt: str) -> bool:
        """Whether it is being made."""
        return attempt in self._running

    async def once(self, attempt: str, make: Callable[[], Awaitable[bool]]) -> None:
        """Make the attempt unless it was made; wait for it where it is being made.

        `make` returns False for one that is not over, as it comes again under the same id; one
        that raises has not been made either.
        """
        while (running := self._running.get(attempt)) is not None:
            # It was read twice, and is under way: this record is done when that one is.
            await asyncio.wait((running,))
        if attempt in self._made:
            return
        current = asyncio.current_task(running_loop())
        if current is None:
            raise RuntimeError("attempts are made inside tasks")
        self._running[attempt] = current
        try:
            over = await make()
        finally:
            del self._running[attempt]
        if not over:
            return
        self._made[attempt] = None
        if len(self._made) > self._remembered:
            self._made.popitem(last=False)
