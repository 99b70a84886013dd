"""When a caller commits: at an interval, and sooner when much has ended."""

import asyncio
from contextlib import suppress

from aiokafka import AIOKafkaConsumer

from millrace.streams.offsets import OffsetTracker, Partition
from millrace.streams.progress import commit_progress


class Committing:
    """Commits what a tracker says is done, with what is done beyond it.

    What has ended since the last commit is done again after a SIGKILL: that is what ends within
    `interval_seconds`, or about `after_calls` calls where more end in that time.
    """

    def __init__(
        self,
        *,
        consumer: AIOKafkaConsumer,
        tracker: OffsetTracker,
        topic: str,
        interval_seconds: float,
        after_calls: int,
    ) -> None:
        self._consumer = consumer
        self._tracker = tracker
        self._topic = topic
        self._interval_seconds = interval_seconds
        self._after_calls = after_calls
        self._ended = 0
        self._enough = asyncio.Event()

    def finish(self, partition: Partition, offset: int) -> None:
        """Note that everything made from a record is safe."""
        self._tracker.finish(partition, offset)
        self._ended += 1
        if self._ended >= self._after_calls:
            self._enough.set()

    async def run(self) -> None:
        """Commit until cancelled; what the broker refuses is tried again at the interval."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_seconds):
                    await self._enough.wait()
            await self.now()

    async def now(self) -> None:
        """Commit at once."""
        self._ended = 0
        self._enough.clear()
        await commit_progress(self._consumer, self._tracker, topic=self._topic)
