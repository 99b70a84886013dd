"""What a fault is, and how one is injected under load."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from harness import oracle
from harness.load import KINDS, Kind
from harness.setting import Setting


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and the load that it meets."""

    name: str
    inject: Callable[[Setting], Awaitable[None]]
    """Does it and puts it right again."""
    kinds: Sequence[Kind] = KINDS
    requests: int = 40
    per_second: float = 30.0
    excused: bool = False
    """Whether progress may stop while it lasts."""
    graceful: bool = False
    """Whether no call may be paid twice for it."""
    parts: tuple[str, ...] = ()
    """Of several at the same time: their names."""


def together(name: str, faults: Sequence[Fault]) -> Fault:
    """Several at the same time, under the first one's load."""

    async def inject(setting: Setting) -> None:
        await all_of(*(fault.inject(setting) for fault in faults))

    return Fault(
        name,
        inject,
        kinds=faults[0].kinds,
        requests=max(fault.requests for fault in faults),
        excused=any(fault.excused for fault in faults),
        graceful=all(fault.graceful for fault in faults),
        parts=tuple(fault.name for fault in faults),
    )


async def all_of(*work: Awaitable[None]) -> None:
    """Let all end, then raise the first failure, if there is one."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


@dataclass(frozen=True)
class Injected:
    """How an injection went."""

    name: str
    requests: int
    seconds: float
    problem: str | None
    """None when everything ended well."""


async def inject(setting: Setting, fault: Fault) -> None:
    """Send the load, do it in the middle, wait until all has ended well.

    Raises:
        AssertionError: Something was lost, ended twice or badly, or did not end.
    """
    before = len(setting.load.sent)
    excuse: Any = setting.watch.excuse() if fault.excused else nullcontext()

    async def work() -> None:
        with excuse:
            await under_way(setting, before)
            await fault.inject(setting)

    sending = setting.load.send(fault.requests, kinds=fault.kinds, per_second=fault.per_second)
    ids = await while_loaded(setting, sending, work())
    await setting.settled(ids)
    if fault.graceful:
        twice = await setting.paid_for_nothing(())
        twice = [each for each in twice if each.split("/")[0] in ids]
        assert not twice, f"paid twice, though nobody died: {oracle.shown(twice)}"


async def while_loaded(
    setting: Setting, sending: Coroutine[Any, Any, list[str]], work: Awaitable[None]
) -> list[str]:
    """Do something while a load is being sent; returns its ids once both are done.

    When it fails nothing more is sent: the broker may be away, and stay so until it is healed.
    """
    before = set(setting.load.sent)
    loading = asyncio.create_task(sending)
    try:
        await work
    except BaseException:
        loading.cancel()
        await asyncio.wait((loading,))
        setting.given_up |= setting.load.sent.keys() - before
        raise
    return await loading


async def under_way(setting: Setting, before: int) -> None:
    """Return once some of the requests sent after the first `before` have ended."""

    def some_ended() -> bool:
        fresh = list(setting.load.sent)[before:]
        return sum(each in setting.tape.ends for each in fresh) >= min(5, len(fresh)) > 0

    await setting.until(some_ended, "the load to be under way")


async def kill(setting: Setting, name: str) -> None:
    """SIGKILL a process; what a caller had in flight then may be paid again."""
    await setting.cluster.workers[name].kill()
    await setting.note_death(name)
