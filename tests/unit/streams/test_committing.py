"""When a caller commits."""

import asyncio
from typing import Any

from millrace.streams.committing import Committing
from millrace.streams.offsets import OffsetTracker, Partition

AT = Partition("llm.calls.openai", 0)


class Consumer:
    """Takes commits."""

    def __init__(self) -> None:
        self.commits: list[int] = []
        self.came = asyncio.Event()

    async def commit(self, offsets: dict[Any, Any]) -> None:
        self.commits += [offset for offset, _ in offsets.values()]
        self.came.set()


def committing(consumer: Consumer, *, interval_seconds: float, after_calls: int) -> Committing:
    """Of a partition with ten records under way."""
    tracker = OffsetTracker()
    for offset in range(10):
        tracker.start(AT, offset)
    return Committing(
        consumer=consumer,
        tracker=tracker,
        topic=AT.topic,
        interval_seconds=interval_seconds,
        after_calls=after_calls,
    )


async def test_much_that_has_ended_does_not_wait_for_the_interval() -> None:
    """It would be paid again after a kill; what comes next waits again."""
    consumer = Consumer()
    commits = committing(consumer, interval_seconds=3600, after_calls=3)
    running = asyncio.create_task(commits.run())
    commits.finish(AT, 0)
    commits.finish(AT, 1)
    await asyncio.sleep(0)
    assert not consumer.commits

    commits.finish(AT, 2)
    await consumer.came.wait()
    commits.finish(AT, 3)
    await asyncio.sleep(0)

    assert consumer.commits == [3]
    running.cancel()
    await asyncio.wait((running,))


async def test_little_is_committed_at_the_interval() -> None:
    """However little it is."""
    consumer = Consumer()
    commits = committing(consumer, interval_seconds=0.001, after_calls=100)
    running = asyncio.create_task(commits.run())

    commits.finish(AT, 0)
    await consumer.came.wait()

    assert consumer.commits == [1]
    running.cancel()
    await asyncio.wait((running,))
