"""Which work is to be stopped: known to every caller process."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from millrace.schemas.cancellation import Cancellation
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.vocabulary import CancelledScope
from millrace.streams.dead_letters import Clock, RawRecord, SetAside, utc_now
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.publisher import translate
from millrace.streams.raw_records import raw_record

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
        self._watchers: dict[str, dict[int, Callable[[], None]]] = {}
        self._next_watcher = 0
        self.revision = 0
        """Grows with each cancellation, for those who look now and then."""
        self._who: dict[int, int] = {}

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
        for watcher, stop in list(self._watchers.get(request_id, {}).items()):
            if self.covers(request_id, self._who[watcher]):
                stop()

    def covers(self, request_id: str, member: int) -> bool:
        """Whether this member's work is to be stopped."""
        entry = self._members.get(request_id)
        return entry is not None and (_ALL in entry[0] or member in entry[0])

    def scope(self, request_id: str, member: int) -> CancelledScope | None:
        """What was cancelled, of a member's work: the request, or that member alone."""
        if not self.covers(request_id, member):
            return None
        return "request" if _ALL in self._members[request_id][0] else "member"

    @contextmanager
    def watching(self, request_id: str, member: int, stop: Callable[[], None]) -> Iterator[None]:
        """Call `stop` if the work is cancelled within the block."""
        watcher = self._next_watcher
        self._next_watcher += 1
        self._who[watcher] = member
        self._watchers.setdefault(request_id, {})[watcher] = stop
        try:
            yield
        finally:
            del self._who[watcher]
            watchers = self._watchers[request_id]
            del watchers[watcher]
            if not watchers:
                del self._watchers[request_id]


class CancellationReader:
    """Reads the whole cancellations topic from `window` ago on, in every process.

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
        self._topic = topic
        self._cancellations = cancellations
        self._set_aside = set_aside
        self._window = window
        self._clock = clock
        self._consumer = AIOKafkaConsumer(
            topic, **settings.consumer_kwargs(), auto_offset_reset="earliest"
        )
        self.caught_up = asyncio.Event()
        """Set once everything written before the start has been read."""

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            BrokerError: The topic cannot be read.
        """
        try:
            await self._consumer.start()
            await self._read()
        except KafkaError as error:
            raise translate(error, f"read {self._topic!r}") from error
        finally:
            await self._consumer.stop()

    async def _read(self) -> None:
        consumer = self._consumer
        # Without a group every partition is assigned, also those that are added later.
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)
        horizon = self._clock() - self._window
        started_at = self._clock()
        while True:
            if not self.caught_up.is_set():
                behind = [tp for tp in partitions if await consumer.position(tp) < ends[tp]]
                if not behind:
                    self.caught_up.set()
            batches = await consumer.getmany(timeout_ms=200)
            for records in batches.values():
                for record in records:
                    source = raw_record(record)
                    if source.timestamp >= horizon and source.value is not None:
                        await self._take(source, live=source.timestamp >= started_at)

    async def _take(self, source: RawRecord, *, live: bool) -> None:
        try:
            cancellation = Cancellation.decode(source.value or b"", source.headers)
        except InvalidEventError as error:
            log.warning("cancellation.invalid", offset=source.offset, error=error.message)
            # Every process reads the record; its own coordinates make the dead letters one.
            if live:
                await self._set_aside(source, error)
            return
        self._cancellations.add(cancellation)
