"""Records that were read and wait for a place, so that a call that ends is followed at once."""

from collections import deque

from millrace.streams.dead_letters import RawRecord
from millrace.streams.offsets import Partition


class ReadAhead:
    """A bounded queue, in the order of reading.

    What waits here has not been begun: it may be dropped when its partition is given up, and is
    read again by whoever has the partition next.
    """

    def __init__(self, *, records: int, content_bytes: int) -> None:
        self._limit = records
        self._byte_limit = content_bytes
        self._waiting: deque[RawRecord] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def room(self) -> int:
        """How many more records it takes; 0 also while it holds too many bytes."""
        if self._bytes >= self._byte_limit:
            return 0
        return max(0, self._limit - len(self._waiting))

    @property
    def low(self) -> bool:
        """Whether it is time to read on, so that reading pauses and resumes rarely."""
        return len(self._waiting) <= self._limit // 2 and self._bytes < self._byte_limit

    def put(self, record: RawRecord) -> None:
        """Append a record; what was read is taken even when there is no room."""
        self._waiting.append(record)
        self._bytes += len(record.value or b"")

    def next(self) -> RawRecord | None:
        """Take the first record."""
        if not self._waiting:
            return None
        record = self._waiting.popleft()
        self._bytes -= len(record.value or b"")
        return record

    def drop(self, partitions: set[Partition]) -> None:
        """Forget the records of these partitions."""
        kept = [
            record
            for record in self._waiting
            if Partition(record.topic, record.partition) not in partitions
        ]
        self._waiting = deque(kept)
        self._bytes = sum(len(record.value or b"") for record in kept)

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._bytes = 0
