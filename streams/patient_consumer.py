"""Faust's Kafka consumer, that loses nothing while tables are recovered, and is there when needed.

Two things of Faust 0.15.3 lose records after a start or a rebalance, and later ones are committed
past them:

- It resumes the partitions of the streams, then seeks them, then resumes the flow; and resuming the
  flow empties the queues of the streams, with whatever was handed over in between.
- It gives the set of partitions to fetch to aiokafka and goes on changing it. Emptied meanwhile, it
  means all of them; what comes of the others is dropped, and their positions have moved on.

Here streams wait until the flow has been resumed, and what was fetched for a stream that does not
read at this moment is fetched again.

And one thing leaves a standby of no use: a member without partitions does not ask aiokafka for
records, which takes it for dead after max.poll.interval. It leaves its group then, to join it again
with the next fetch, which never comes. Here its turns count as fetches.

And one keeps a process from ending: what was made of an event could not be delivered, so that the
event is never acknowledged, and Faust waits for that for ever. Here it stops waiting when it is
told to.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.transport.drivers.aiokafka import Consumer


class PatientConsumer(Consumer):  # type: ignore[misc]
    """A consumer that reads streams only once their queues will be emptied no more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: set[Any] = set()
        self._waits = True

    def stop_waiting(self) -> None:
        """End without what has not been acknowledged, now or later: it stays uncommitted."""
        self._waits = False

    def resume_partitions(self, tps: Iterable[Any]) -> None:
        """Resume changelogs at once, streams with the flow."""
        wanted = set(tps)
        streams = {each for each in wanted if not self._is_changelog_tp(each)}
        self._waiting |= streams
        super().resume_partitions(wanted - streams)

    def pause_partitions(self, tps: Iterable[Any]) -> None:
        """Pause them, also those that wait to be resumed."""
        paused = set(tps)
        self._waiting -= paused
        super().pause_partitions(paused)

    def resume_flow(self) -> None:
        """Resume the flow, and with it the streams that wait for it."""
        super().resume_flow()
        waiting, self._waiting = self._waiting, set()
        super().resume_partitions(waiting & set(self.assignment()))

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:  # noqa: ASYNC109 (Faust's signature)
        records, active = await super()._wait_next_records(timeout)
        if records and active is not None:
            unread = {
                each: fetched[0].offset
                for each, fetched in records.items()
                if each not in active
                and each not in self._buffered_partitions
                and not self._is_changelog_tp(each)
            }
            held = self.assignment()
            back = {each: offset for each, offset in unread.items() if each in held}
            if back:
                # In a rebalance that comes this moment their positions are found anew anyway.
                with suppress(IllegalStateError):
                    await self.seek_wait(back)
        if active is not None and not active:
            self._count_as_fetch()
        return records, active

    async def _wait_for_ack(self, timeout: float) -> None:  # noqa: ASYNC109 (Faust's signature)
        if self._waits:
            await super()._wait_for_ack(timeout)
        else:
            self._unacked_messages.clear()

    def _count_as_fetch(self) -> None:
        """Tell aiokafka that this member is alive; it has no public way to hear of it."""
        with self._thread._ensure_consumer()._subscription.fetch_context():  # noqa: SLF001
            pass
