"""A wait that makes no progress is broken off; nothing else is."""

import asyncio

import pytest

from millrace.providers.stall import StallWatch


async def test_a_wait_longer_than_its_limit_times_out() -> None:
    """And the task goes on unharmed."""
    watch = StallWatch()

    with pytest.raises(TimeoutError, match=r"nothing came for 0\.02 s"):
        await watch.wait(asyncio.Event().wait(), seconds=0.02)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    watch.close()


async def test_many_short_waits_do_not_add_up() -> None:
    """The limit is for each wait, though one timer serves them all."""
    watch = StallWatch()
    loop = asyncio.get_running_loop()
    began = loop.time()

    while loop.time() < began + 1.0:
        tick = loop.create_future()
        loop.call_later(0.05, tick.set_result, None)
        await watch.wait(tick, seconds=0.5)

    watch.close()


async def test_time_between_waits_is_the_consumers_own() -> None:
    """A slow consumer is no slow server: its work is never cancelled."""
    watch = StallWatch()
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    ready.set_result("first")
    assert await watch.wait(ready, seconds=0.2) == "first"

    slow = loop.create_future()
    loop.call_later(0.6, slow.set_result, "work done")
    assert await slow == "work done"

    again = loop.create_future()
    loop.call_soon(again.set_result, "second")
    assert await watch.wait(again, seconds=0.2) == "second"
    watch.close()


async def test_cancellation_from_outside_stays_a_cancellation() -> None:
    """Whoever cancels the task is heard."""
    waiting = asyncio.Event()

    async def read() -> None:
        watch = StallWatch()
        waiting.set()
        try:
            await watch.wait(asyncio.Event().wait(), seconds=30)
        finally:
            watch.close()

    task = asyncio.create_task(read())
    await waiting.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_shorter_limit_takes_the_place_of_a_longer_one() -> None:
    """Pauses between pieces may be allowed less than the first piece."""
    watch = StallWatch()
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.call_soon(ready.set_result, None)
    await watch.wait(ready, seconds=60)

    with pytest.raises(TimeoutError):
        await watch.wait(asyncio.Event().wait(), seconds=0.02)
    watch.close()
