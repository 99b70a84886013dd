"""Which partitions a consumer holds, for how long, and whether it knows what their commits say."""

import time
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer

from millrace.streams.lease import Lease
from millrace.streams.offsets import Partition

Learn = Callable[[set[Partition]], Awaitable[None]]
"""Learns what the commits of these partitions say of what is done beyond their offsets."""


class Holding:
    """The partitions of a member of a group, from one assignment to the next.

    `session_seconds` after the group has heard of the member it gives them to others, whether the
    member knows of it or not. `now` are seconds of a clock that only goes forward.
    """

    def __init__(
        self, *, learn: Learn, session_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._learn = learn
        self._lease = Lease(seconds=session_seconds, now=now)
        self._held: set[Partition] = set()
        self._unknown: set[Partition] = set()
        self.assignment = 0
        """Another number each time that partitions change hands."""

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._held

    @property
    def leased(self) -> bool:
        """Whether nobody else can have been given them; if not, nothing of them is to be begun."""
        return self._lease.held

    def follow(self, consumer: AIOKafkaConsumer) -> None:
        """Learn of the heartbeats of a consumer that has been started."""
        self._lease.follow(consumer)

    def give_up(self, partitions: set[Partition]) -> None:
        """Note that they are going to another member, or are being shared out anew."""
        self._held -= partitions
        self.assignment += 1

    def take_over(self, partitions: set[Partition]) -> None:
        """Note that these and no others are held from now on."""
        self._held = set(partitions)
        self._unknown = set(partitions)
        self._lease.renew()
        self.assignment += 1

    async def learned(self) -> bool:
        """Learn what the commits say, once; False when partitions have changed hands meanwhile.

        Then what has been read is read again. To be called with the first records, and not while
        partitions change hands: the group would wait.
        """
        if not self._unknown:
            return True
        assignment = self.assignment
        await self._learn(self._unknown)
        if assignment != self.assignment:
            return False
        self._unknown = set()
        return True
