"""Which work is to be stopped: known to every caller process."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import structlog

from millrace.schemas.cancellation import Cancellation
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.vocabulary import CancelledScope
from millrace.streams.dead_letters import Clock, RawRecord, SetAside, utc_now
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.whole_topic import WholeTopic

log = structlog.get_logger(__name__)

_ALL = -1


class Cancellations:
    """The cancellations of the last while, and who wants to hear of the next ones.

    Remembered for `window`, so that work is also stopped that starts after its cancellation.
    """

    def __init__(self, *, window: timedelta, clock: Clock = utc_now) -> None:
        self._window = window
        self._clock = clock
        self._members: OrderedDict[str, tuple[frozenset[int], float]] = OrderedDict()
        self._watchers: dict[str, list[_Watcher]] = {}
        self.revision = 0
        """Grows with each cancellation, for those who look now and then."""

    def add(self, cancellation: Cancellation) -> None:
        """Remember a cancellation and stop what it names."""
        self.revision += 1
        request_id = cancellation.request_id
        now = self._clock().timestamp()
        members = frozenset(cancellation.members if cancellation.members is not None else (_ALL,))
        before, _ = self._members.pop(request_id, (frozenset(), now))
        self._members[request_id] = (before | members, now)
        horizon = now - self._window.total_seconds()
        while self._members and next(iter(self._members.values()))[1] < horizon:
            self._members.popitem(last=False)
        for watcher in list(self._watchers.get(request_id, ())):
            if self.covers(request_id, watcher.member):
                watcher.stop()

    def covers(self, request_id: str, member: int) -> bool:
        """Whether this member's work is to be stopped."""
        entry = self._members.get(request_id)
        return entry is not None and (_ALL in entry[0] or member in entry[0])

    def scope(self, request_id: str, member: int) -> CancelledScope | None:
        """What was cancelled, of a member's work: the request, or that member alone."""
        if not self.covers(request_id, member):
            return None
        return "request" if _ALL in self._members[request_id][0] else "member"

    def watching(
        self, request_id: str, member: int, stop: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Call `stop` if the work is cancelled within the block."""
        return _Watcher(self._watchers, request_id, member, stop)


class _Watcher:
    """Somebody who wants to hear of a cancellation, while a block runs: each call is one."""

    __slots__ = ("_all", "_request_id", "member", "stop")

    def __init__(
        self,
        watchers: "dict[str, list[_Watcher]]",
        request_id: str,
        member: int,
        stop: Callable[[], None],
    ) -> None:
        self._all = watchers
        self._request_id = request_id
        self.member = member
        self.stop = stop

    def __enter__(self) -> None:
        self._all.setdefault(self._request_id, []).append(self)

    def __exit__(self, *_: object) -> None:
        watchers = self._all[self._request_id]
        watchers.remove(self)
        if not watchers:
            del self._all[self._request_id]


class CancellationReader:
    """Reads the cancellations of the last `window` and all that follow.

    No consumer group: each caller must hear of each cancellation.
    """

    def __init__(
        self,
        *,
        settings: KafkaSettings,
        topic: str,
        cancellations: Cancellations,
        set_aside: SetAside,
        window: timedelta,
        clock: Clock = utc_now,
    ) -> None:
        self._cancellations = cancellations
        self._set_aside = set_aside
        self._horizon = clock() - window
        self._topic = WholeTopic(topic=topic, kafka=settings)
        self.caught_up = self._topic.caught_up
        """Set once everything written before the start has been read."""

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            BrokerError: The topic cannot be read.
        """
        await self._topic.run(self._take)

    async def _take(self, source: RawRecord, live: bool) -> None:
        if source.value is None or source.timestamp < self._horizon:
            return
        try:
            cancellation = Cancellation.decode(source.value, source.headers)
        except InvalidEventError as error:
            log.warning("cancellation.invalid", offset=source.offset, error=error.message)
            # Every process reads the record; its own coordinates make the dead letters one.
            if live:
                await self._set_aside(source, error)
            return
        self._cancellations.add(cancellation)
