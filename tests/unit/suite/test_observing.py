"""What tests wait with: it ends when it may, and says what went wrong."""

import asyncio

import pytest
from observing import Observing, changing_until


async def test_a_wait_ends_with_the_look_that_shows_what_is_wanted() -> None:
    """Not before."""
    looks = 0

    async def look() -> bool:
        nonlocal looks
        await asyncio.sleep(0)
        looks += 1
        return True

    async with Observing(look) as looking:
        await looking.until(lambda: looks >= 3, seconds=5)

    assert looks >= 3


async def test_what_a_look_raises_reaches_whoever_waits() -> None:
    """At once, in place of a wait for nothing."""

    async def look() -> bool:
        await asyncio.sleep(0)
        raise ValueError("nothing to see")

    async with Observing(look) as looking:
        with pytest.raises(ValueError, match="nothing to see"):
            await looking.until(lambda: False, seconds=5)


async def test_patience_ends_when_nothing_new_is_seen() -> None:
    """However often it is looked."""

    async def ask() -> str:
        return "as ever"

    with pytest.raises(AssertionError, match=r"waited for another.*\['as ever'\]"):
        await changing_until(ask, lambda answer: answer == "other", "another", seconds=0.01)


async def test_a_patient_wait_may_outlast_its_seconds() -> None:
    """As long as each of them brings something new."""
    loop, looks = asyncio.get_running_loop(), 0
    began = loop.time()

    async def look() -> bool:
        nonlocal looks
        await asyncio.sleep(0)
        looks += 1
        return True

    async with Observing(look) as looking:
        await looking.until(lambda: loop.time() > began + 2, seconds=1, patient=True)

    assert looks
