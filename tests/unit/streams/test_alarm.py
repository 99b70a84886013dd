"""When an alarm rings that was asked for several times."""

import asyncio

from pipeline_doubles import until

from millrace.streams.alarm import Alarm


async def test_it_rings_once_after_the_shortest_time() -> None:
    """A longer one that was asked for later does not put it off, nor does it ring twice."""
    rung: list[float] = []
    loop = asyncio.get_running_loop()
    alarm = Alarm(lambda: rung.append(loop.time()))
    start = loop.time()
    alarm.within(60)
    alarm.within(0.001)
    alarm.within(60)
    await until(lambda: bool(rung))

    assert rung[0] - start < 30
    await asyncio.sleep(0)
    assert len(rung) == 1


async def test_it_may_be_asked_again_when_it_rings() -> None:
    """Whoever looks then says when to look again."""
    rung: list[int] = []

    def ring() -> None:
        rung.append(len(rung))
        if len(rung) < 3:
            alarm.within(0.001)

    alarm = Alarm(ring)
    alarm.within(0.001)
    await until(lambda: len(rung) == 3)

    assert rung == [0, 1, 2]


async def test_it_rings_no_more_once_it_is_off() -> None:
    """Until it is asked to again."""
    rung: list[str] = []
    alarm = Alarm(lambda: rung.append("first"))
    other = asyncio.Event()
    alarm.within(0.001)
    alarm.off()
    asyncio.get_running_loop().call_later(0.01, other.set)
    await other.wait()
    assert rung == []

    alarm.within(0)
    await until(lambda: bool(rung))
    assert rung == ["first"]
