"""What ends the work on a call, and what is left of that in its task."""

import asyncio
from collections.abc import Callable

import pytest

from millrace.streams.call_limit import CallLimit

LONG = 3600.0


async def work(seconds: float, begun: Callable[[CallLimit], object] = lambda _: None) -> str:
    """Wait for ever, or until the limit ends it; says why."""
    limit = CallLimit(seconds)
    begun(limit)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cause = limit.cause()
        if cause is None:
            raise
        return cause
    finally:
        limit.close()
    return "done"


@pytest.mark.parametrize("seconds", [0.001, 0.0, -5.0])
async def test_time_runs_out(seconds: float) -> None:
    """Also where it was up before the work began; the task goes on as if never cancelled."""
    assert await work(seconds) == "expired"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_somebody_stops_it() -> None:
    """Once: a second word changes nothing."""

    def begun(limit: CallLimit) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(limit.stop)
        loop.call_soon(limit.stop)

    assert await work(LONG, begun) == "stopped"


async def test_whoever_cancels_the_task_is_heard() -> None:
    """Be the limit's time up as well or not."""
    for seconds, stops in ((LONG, False), (LONG, True)):
        limits: list[CallLimit] = []
        task = asyncio.create_task(work(seconds, limits.append))
        await asyncio.sleep(0)
        if stops:
            limits[0].stop()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task


async def test_work_that_ends_of_itself_leaves_nothing_behind() -> None:
    """No timer that would cancel what the task does next, and no cancellation counted."""
    limit = CallLimit(0.001)
    limit.close()
    await asyncio.sleep(0.005)

    limit = CallLimit(LONG)
    asyncio.get_running_loop().call_soon(limit.stop)
    with pytest.raises(ValueError, match="instead"):
        await failing_when_cancelled()
    limit.close()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def failing_when_cancelled() -> None:
    """Fails in another way than by the cancellation."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise ValueError("this instead") from None
