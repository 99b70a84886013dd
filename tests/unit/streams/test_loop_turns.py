"""How many tasks go on in one turn of the event loop."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streams.loop_turns import LoopTurns


class Crowd:
    """Tasks that all want to go on, and those of them that have."""

    def __init__(self, size: int, *, each: int) -> None:
        self.turns = LoopTurns(each=each)
        self.gone_on: list[int] = []
        self.tasks = [asyncio.create_task(self._go_on(number)) for number in range(size)]

    async def _go_on(self, number: int) -> None:
        await self.turns.wait()
        self.gone_on.append(number)

    async def by_turns(self) -> list[list[int]]:
        """Who went on in each turn, until all have ended."""
        seen: list[list[int]] = []
        while not all(task.done() for task in self.tasks):
            before = len(self.gone_on)
            await asyncio.sleep(0)
            seen.append(self.gone_on[before:])
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self.tasks)
        return [turn for turn in seen if turn]


async def test_so_many_go_on_in_a_turn_in_the_order_in_which_they_came() -> None:
    """None is left behind, and none waits while a turn has room."""
    crowd = Crowd(7, each=3)

    assert await crowd.by_turns() == [[0, 1, 2], [3, 4, 5], [6]]


async def test_who_comes_alone_need_not_wait() -> None:
    """Where little is going on, nothing is put off."""
    turns = LoopTurns(each=1)
    for _ in range(3):
        # A coroutine that ends without having waited stops at once.
        with pytest.raises(StopIteration):
            turns.wait().send(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_others_run_between_two_turns() -> None:
    """What the network has brought need not wait for all of a crowd."""
    crowd = Crowd(6, each=2)
    gone_on: list[int] = []
    for _ in range(3):
        await asyncio.sleep(0)
        gone_on.append(len(crowd.gone_on))
    await crowd.by_turns()

    assert gone_on[0] <= 2
    assert gone_on[-1] < 6


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 20), each=st.integers(1, 5), data=st.data())
def test_who_is_cancelled_takes_nobodys_turn(size: int, each: int, data: st.DataObject) -> None:
    """Whoever else waits goes on, in order, and never more in a turn than may."""
    cancelled = data.draw(st.sets(st.integers(0, size - 1)))
    after = data.draw(st.integers(0, 3))

    async def run() -> tuple[list[list[int]], set[int]]:
        crowd = Crowd(size, each=each)
        for _ in range(after):
            await asyncio.sleep(0)
        early = set(crowd.gone_on)
        for number in cancelled:
            crowd.tasks[number].cancel()
        by_turns = await crowd.by_turns()
        return [sorted(early), *by_turns], set(range(size)) - (cancelled - early)

    turns, expected = asyncio.run(run())

    gone_on = [number for turn in turns for number in turn]
    assert set(gone_on) >= expected
    assert gone_on == sorted(gone_on)
    assert all(len(turn) <= each for turn in turns[1:])
