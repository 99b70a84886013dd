"""The running event loop, asked for without a system call."""

import asyncio
import threading

import pytest

from millrace.providers.running_loop import running_loop


def test_it_is_the_loop_that_runs() -> None:
    """One after the other in a thread, and each thread its own."""

    async def same() -> bool:
        return running_loop() is running_loop() is asyncio.get_running_loop()

    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(same())))

    async def beside() -> bool:
        thread.start()
        await asyncio.to_thread(thread.join)
        return await same()

    assert asyncio.run(same())
    assert asyncio.run(beside())
    assert found == [True]


def test_without_a_loop_there_is_none() -> None:
    """Also where one has run before."""
    with pytest.raises(RuntimeError):
        running_loop()
