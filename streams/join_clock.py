"""Ending joins whose time is up.

The clock does not end anything itself: it writes a `JoinTimeout` to the topic of outcomes, and
the join acts when it reads it. So the decision has a place among the outcomes, and a restart
that reads them again decides the same.
"""

import asyncio
import heapq
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from millrace.schemas.outcome import JoinTimeout
from millrace.streams import crash_points
from millrace.streams.crash_points import CrashPoint
from millrace.streams.publisher import Publisher

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.1
REPEAT_SECONDS = 10.0
"""A timeout that was written but not read yet is written again after this."""


class JoinClock:
    """Watches when time is up for the joins that this process holds: a stage's, or the request's.

    Rebuilt from the table of states whenever partitions change hands. A timeout written twice
    does no harm: the second one finds the join ended.
    """

    def __init__(
        self,
        *,
        publisher: Publisher,
        topic: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._publisher = publisher
        self._topic = topic
        self._now = now
        self._due: dict[str, tuple[float, int]] = {}
        self._heap: list[tuple[float, str, float]] = []
        """When to write, about which request, and what must be due then."""
        self._held: frozenset[int] = frozenset()

    def watch(self, request_id: str, *, due: datetime, partition: int) -> None:
        """Say of this join at `due` that time is up; takes the place of what was due before."""
        at = due.timestamp()
        before = self._due.get(request_id)
        if before is None or before[0] != at:
            # What is in the heap for an earlier time is passed over when it comes up.
            heapq.heappush(self._heap, (at, request_id, at))
        self._due[request_id] = (at, partition)

    def forget(self, request_id: str) -> None:
        """The join has ended."""
        self._due.pop(request_id, None)

    def hold(self, partitions: set[int]) -> None:
        """Note which partitions are held: joins of others are not for us to end."""
        self._held = frozenset(partitions)
        for request_id, (_, partition) in list(self._due.items()):
            if partition not in self._held:
                del self._due[request_id]
        self._heap = [(at, request_id, at) for request_id, (at, _) in self._due.items()]
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._due)

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            BrokerError: A timeout cannot be written.
        """
        while True:
            await self.write_due()
            await asyncio.sleep(TICK_SECONDS)

    async def write_due(self) -> None:
        """Write the timeouts that are due now."""
        now = self._now()
        deliveries = []
        while self._heap and self._heap[0][0] <= now:
            _, request_id, meant = heapq.heappop(self._heap)
            entry = self._due.get(request_id)
            if entry is None or entry[0] != meant:
                continue
            due, _ = entry
            timeout = JoinTimeout(request_id=request_id, due=datetime.fromtimestamp(due, UTC))
            # Awaited together: of many that are due at once, none waits for another's way.
            deliveries.append(await self._publisher.publish(self._topic, timeout, key=request_id))
            log.info("join.timeout", request_id=request_id)
            heapq.heappush(self._heap, (now + REPEAT_SECONDS, request_id, due))
        for delivery in deliveries:
            await delivery
            if crash_points.armed:
                crash_points.reach(CrashPoint.TIMEOUT_WRITTEN)
