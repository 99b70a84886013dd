"""What Faust's consumer reads while tables are recovered."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import IllegalStateError
from faust.types import TP
from mode import Service

from millrace.streams.patient_consumer import PatientConsumer

STREAM, CHANGELOG = TP("requests", 0), TP("app-seen-changelog", 0)


class Connected(PatientConsumer):
    """A consumer with two partitions, and fetches on a script."""

    def __init__(self) -> None:
        Service.__init__(self)
        self.app: Any = SimpleNamespace(
            client_only=False, tables=SimpleNamespace(changelog_topics={CHANGELOG.topic})
        )
        self._waiting = set()
        self._active_partitions: set[TP] = set()
        self._paused_partitions = {STREAM, CHANGELOG}
        self._buffered_partitions: set[TP] = set()
        self.flow_active = True
        self.can_resume_flow = asyncio.Event()
        self.suspend_flow = asyncio.Event()
        self.not_waiting_next_records = asyncio.Event()
        self.fetched: dict[TP, list[Any]] = {}
        self.sought: list[dict[TP, int]] = []
        self.rebalancing = False
        self.subscription = SubscriptionState()
        client = SimpleNamespace(_subscription=self.subscription)
        self._thread = SimpleNamespace(_ensure_consumer=lambda: client)

    def assignment(self) -> set[TP]:
        return {STREAM, CHANGELOG}

    async def sleep(self, n: Any) -> None:
        """No time passes here."""

    async def _getmany(self, *_: Any, **__: Any) -> dict[TP, list[Any]]:
        return self.fetched

    async def seek_wait(self, partitions: dict[TP, int]) -> None:
        if self.rebalancing:
            raise IllegalStateError("No current assignment")
        self.sought.append(partitions)


@pytest.fixture
async def consumer() -> Connected:
    """A consumer right after an assignment: everything is paused."""
    return Connected()


def records(*offsets: int) -> list[Any]:
    """What the client library fetched."""
    return [SimpleNamespace(offset=offset) for offset in offsets]


async def test_streams_are_resumed_with_the_flow(consumer: Connected) -> None:
    """Not before: resuming the flow empties their queues."""
    consumer.resume_partitions({STREAM, CHANGELOG})
    assert consumer._active_partitions == {CHANGELOG}

    consumer.resume_flow()

    assert consumer._active_partitions == {STREAM, CHANGELOG}


async def test_a_stream_that_is_paused_again_is_not_resumed(consumer: Connected) -> None:
    """Another rebalance came first."""
    consumer.resume_partitions({STREAM})
    consumer.pause_partitions({STREAM})
    consumer.resume_flow()

    assert consumer._active_partitions == set()


async def test_what_was_fetched_for_a_waiting_stream_is_fetched_again(consumer: Connected) -> None:
    """From the first of it; changelogs take care of themselves."""
    consumer.resume_partitions({STREAM, CHANGELOG})
    consumer.fetched = {STREAM: records(7, 8), CHANGELOG: records(1)}
    await consumer._wait_next_records(0.0)

    assert consumer.sought == [{STREAM: 7}]


async def test_what_was_fetched_for_a_stream_that_reads_is_handed_over(consumer: Connected) -> None:
    """Nothing is sought."""
    consumer.resume_partitions({STREAM, CHANGELOG})
    consumer.resume_flow()
    consumer.fetched = {STREAM: records(7)}
    got, _ = await consumer._wait_next_records(0.0)

    assert (got, consumer.sought) == (consumer.fetched, [])


async def test_a_rebalance_in_between_is_no_fault(consumer: Connected) -> None:
    """It finds the positions anew."""
    consumer.resume_partitions({CHANGELOG})
    consumer.fetched = {STREAM: records(7)}
    consumer.rebalancing = True

    await consumer._wait_next_records(0.0)


async def test_a_member_without_partitions_counts_as_alive(consumer: Connected) -> None:
    """Else it would leave its group after max.poll.interval, and never come back."""
    consumer.subscription._last_fetch_ended -= 1_000
    await consumer._wait_next_records(0.0)

    assert consumer.subscription.fetcher_idle_time < 1_000
