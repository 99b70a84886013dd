"""The hand-over of records to Faust's streams."""

import asyncio
import contextlib
from typing import Any

import pytest
from mode import Service

from millrace.streams.eager_consumer import EagerConsumer


@pytest.fixture
async def racer() -> EagerConsumer:
    """A consumer that is connected to nothing."""
    consumer = EagerConsumer.__new__(EagerConsumer)
    Service.__init__(consumer)
    return consumer


async def test_what_ends_at_once_needs_no_task(racer: EagerConsumer) -> None:
    """A hand-over into a queue with room ends in the fetcher's own task."""
    tasks: list[Any] = []

    async def hand_over() -> str:
        tasks.append(asyncio.current_task())
        return "done"

    result = await racer.wait_first(hand_over(), asyncio.Event().wait())

    assert result.results == ["done"]
    assert [asyncio.current_task()] == tasks


async def test_what_has_to_wait_goes_on_when_it_can(racer: EagerConsumer) -> None:
    """A hand-over into a full queue ends once there is room."""
    queue: asyncio.Queue[str] = asyncio.Queue(maxsize=1)
    await queue.put("first")
    race = asyncio.create_task(racer.wait_first(queue.put("second"), asyncio.Event().wait()))
    await asyncio.sleep(0)

    assert not race.done()
    assert await queue.get() == "first"
    await race
    assert await queue.get() == "second"


async def test_it_may_wait_several_times(racer: EagerConsumer) -> None:
    """Every step of a hand-over is taken, and its result is given back."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(3)]

    async def hand_over() -> list[int]:
        return [await future for future in futures]

    race = asyncio.create_task(racer.wait_first(hand_over(), asyncio.Event().wait()))
    for number, future in enumerate(futures):
        await asyncio.sleep(0)
        future.set_result(number)

    assert (await race).results == [[0, 1, 2]]


async def test_a_suspended_flow_breaks_a_waiting_hand_over_off(racer: EagerConsumer) -> None:
    """A rebalance must not wait for a queue that nobody empties."""
    suspended, broken_off = asyncio.Event(), asyncio.Event()

    async def hand_over() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            broken_off.set()
            raise

    race = asyncio.create_task(racer.wait_first(hand_over(), suspended.wait()))
    await asyncio.sleep(0)
    suspended.set()
    result = await race
    await asyncio.wait_for(broken_off.wait(), timeout=30)

    assert result.results == [True]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_failed_hand_over_raises(racer: EagerConsumer, waits: bool) -> None:
    """Whether it fails at once or after a wait."""

    async def hand_over() -> None:
        if waits:
            await asyncio.sleep(0)
        raise ValueError("no such stream")

    with pytest.raises(ValueError, match="no such stream"):
        await racer.wait_first(hand_over(), asyncio.Event().wait())


async def test_cancellation_reaches_a_waiting_hand_over(racer: EagerConsumer) -> None:
    """Shutdown ends the fetcher while a queue is full."""
    broken_off = asyncio.Event()

    async def hand_over() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            broken_off.set()

    race = asyncio.create_task(racer.wait_first(hand_over(), asyncio.Event().wait()))
    await asyncio.sleep(0)
    race.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await race

    await asyncio.wait_for(broken_off.wait(), timeout=30)
    assert race.cancelled()
