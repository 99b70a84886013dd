"""The places of the calls that a provider entry has in flight, and who prepares to take one.

Before the provider is asked, the broker has to acknowledge the call's reservation. A place that
was taken first would stay empty for so long. So it is taken after that, and more calls than there
are places prepare for theirs.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from millrace.providers.rate_limit import Reservation
from millrace.providers.running_loop import running_loop

_SPARE = 2.0
"""How many times as many prepare as take a place while one prepares: the broker acknowledges
whole batches, so that calls are ready in bursts."""
_WEIGHT = 1 / 32
"""Of the last call in what is known of all."""


class Places:
    """Bounds how many calls the provider sees at once, and how many prepare to be seen.

    As many prepare ahead as find a place about as soon as they are ready, by Little's law: many
    where calls are short and the broker is slow, none where calls take minutes. So nothing is
    reserved long before it is sent. Places go to those who are ready, first come, first served.

    `now` gives seconds that never go back. While `may_take` says no, nobody takes a place: whoever
    is ready waits for the next `hand_out`. `on_room` is called when another call may begin.
    """

    def __init__(
        self,
        limit: int,
        *,
        now: Callable[[], float],
        may_take: Callable[[], bool],
        on_room: Callable[[], None],
    ) -> None:
        self._limit = limit
        self._may_take = may_take
        self._on_room = on_room
        self._begun = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._preparing_seconds = 0.0
        self._taken_seconds = 0.0
        self.now = now
        self.taken = 0
        """How many calls the provider may be seeing now."""

    @property
    def limit(self) -> int:
        """How many there are. Where it becomes lower, calls under way go on."""
        return self._limit

    @limit.setter
    def limit(self, places: int) -> None:
        self._limit = places
        self.hand_out()

    @property
    def ahead(self) -> int:
        """How many calls may prepare beyond those that there is a place for."""
        if not self._taken_seconds:
            return 0
        ready_meanwhile = self._limit * self._preparing_seconds / self._taken_seconds
        return min(self._limit, int(_SPARE * ready_meanwhile))

    @property
    def room(self) -> bool:
        """Whether another call may begin to prepare."""
        return self._begun < self._limit + self.ahead

    @property
    def preparing(self) -> int:
        """How many calls have begun and have no place yet."""
        return self._begun - self.taken

    def begin(self, quota: Reservation | None = None) -> "Place":
        """Have a call prepare, with what it has reserved of the rate limit."""
        self._begun += 1
        return Place(self, quota)

    def hand_out(self) -> None:
        """Give free places to those who are ready."""
        while self._waiting and self._free:
            ready = self._waiting.popleft()
            # A cancelled one is there until its task has run.
            if not ready.done():
                self.taken += 1
                ready.set_result(None)

    async def take(self, *, prepared_seconds: float | None) -> None:
        """For a `Place`: return once there is one, told how long that was prepared for."""
        if prepared_seconds is not None:
            self._preparing_seconds += _WEIGHT * (prepared_seconds - self._preparing_seconds)
        if not self._waiting and self._free:
            self.taken += 1
            return
        ready = running_loop().create_future()
        self._waiting.append(ready)
        try:
            await ready
        except asyncio.CancelledError:
            if not ready.cancelled():
                self._give_back()
            elif ready in self._waiting:
                self._waiting.remove(ready)
            raise

    def leave(self, *, taken_seconds: float | None) -> None:
        """For a `Place`: let go of one that was taken for so long, or never (None)."""
        self._begun -= 1
        if taken_seconds is not None:
            before = self._taken_seconds or taken_seconds
            self._taken_seconds = before + _WEIGHT * (taken_seconds - before)
            self._give_back()
        self._on_room()

    @property
    def _free(self) -> bool:
        return self.taken < self._limit and self._may_take()

    def _give_back(self) -> None:
        self.taken -= 1
        self.hand_out()


class Place:
    """One call's: prepared for, then taken, then left."""

    __slots__ = ("_left", "_places", "_since", "_taken", "quota")

    def __init__(self, places: Places, quota: Reservation | None) -> None:
        self._places = places
        self._since: float | None = None
        self._taken = False
        self._left = False
        self.quota = quota

    @property
    def preparing(self) -> bool:
        """Whether the call is being reserved, or waits for its place."""
        return self._since is not None and not self._taken and not self._left

    def prepare(self) -> None:
        """Note that the call will be ready to take it once the broker has answered."""
        if not self._taken:
            self._since = self._places.now()

    async def take(self) -> None:
        """Return once the call may be sent: at once if it has its place already.

        Whoever is cancelled while waiting takes none.
        """
        if self._taken:
            return
        places, since = self._places, self._since
        await places.take(prepared_seconds=None if since is None else places.now() - since)
        self._taken = True
        self._since = places.now()

    def leave(self) -> None:
        """Let go of it, whether it was taken or not; a second time does nothing."""
        if self._left:
            return
        self._left = True
        since = self._since if self._taken else None
        self._places.leave(taken_seconds=None if since is None else self._places.now() - since)
