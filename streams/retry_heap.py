"""What waits for its time, soonest first."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from millrace.schemas.record import Headers
from millrace.streams.offsets import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCall:
    """A call as it will be written, and the record that it came in."""

    due: float
    """Seconds since 1970."""
    identity: str
    """Names the attempt and its time: a record that is read again has the same."""
    request_id: str
    member: int
    partition: Partition
    offset: int
    topic: str
    """Where it goes."""
    key: bytes | None
    value: bytes
    headers: Headers


@dataclass(slots=True)
class RetryHeap:
    """A heap by due time; in the order of coming among equals. Bounded by its owner."""

    size_bytes: int = 0
    """What the waiting values take."""
    _heap: list[tuple[float, int, WaitingCall]] = field(default_factory=list)
    _order: "count[int]" = field(default_factory=count)

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, waiting: WaitingCall) -> None:
        """Put a call in."""
        heapq.heappush(self._heap, (waiting.due, next(self._order), waiting))
        self.size_bytes += len(waiting.value)

    def pop_due(self, now: float) -> WaitingCall | None:
        """Take the next call whose time has come; None while there is none."""
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, waiting = heapq.heappop(self._heap)
        self.size_bytes -= len(waiting.value)
        return waiting

    def hasten(self, chosen: Callable[[WaitingCall], bool]) -> None:
        """Make these calls due at once, in the order of their coming."""
        entries = [
            (0.0 if chosen(waiting) else due, order, waiting) for due, order, waiting in self._heap
        ]
        heapq.heapify(entries)
        self._heap = entries

    @property
    def next_due(self) -> float | None:
        """When the next call is due; None when nothing waits."""
        return self._heap[0][0] if self._heap else None

    def drop(self, partitions: set[Partition]) -> None:
        """Take out what came from these partitions."""
        kept = [entry for entry in self._heap if entry[2].partition not in partitions]
        if len(kept) < len(self._heap):
            heapq.heapify(kept)
            self._heap = kept
            self.size_bytes = sum(len(waiting.value) for _, _, waiting in kept)
