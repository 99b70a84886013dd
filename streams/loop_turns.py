"""Work that may wait a little, done some at a time, with a look at the network in between.

An event loop runs all that it finds ready before it looks again at what has come, and sends what
was written meanwhile. Where a hundred answers come together and each is booked at once, the
requests that take their places are sent only after all of that.
"""

import asyncio
from collections import deque

from millrace.providers.running_loop import running_loop


class LoopTurns:
    """Lets so many tasks go on in each turn of the event loop, first come, first served."""

    __slots__ = ("_each", "_looking", "_room", "_waiting")

    def __init__(self, *, each: int) -> None:
        self._each = each
        self._room = each
        self._looking = False
        """Whether the next turn has been asked for."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return at once while this turn has room, otherwise in one that has.

        Whoever is cancelled while waiting takes no room.
        """
        if not self._looking:
            self._look_next_turn()
        if self._room:
            self._room -= 1
            return
        mine = running_loop().create_future()
        self._waiting.append(mine)
        await mine

    def _look_next_turn(self) -> None:
        self._looking = True
        running_loop().call_soon(self._let_on)

    def _let_on(self) -> None:
        room, waiting = self._each, self._waiting
        while waiting and room:
            mine = waiting.popleft()
            if not mine.done():
                mine.set_result(None)
                room -= 1
        self._room = room
        self._looking = False
        if room < self._each:
            self._look_next_turn()
