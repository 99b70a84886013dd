"""What a fault is, and how one is injected under load."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaError
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
    seconds: float = 60.0
    """Within which everything has ended after it."""


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
        seconds=max(fault.seconds for fault in faults),
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


async def inject(setting: Setting, fault: Fault) -> list[str]:
    """Send the load, do it in the middle, wait until all has ended well.

    Returns the ids that were sent.

    Raises:
        AssertionError: Something was lost, ended twice or badly, or did not end.
    """
    before = len(setting.load.sent)
    excuse: Any = setting.watch.excuse() if fault.excused else nullcontext()
    loading = asyncio.create_task(
        setting.load.send(fault.requests, kinds=fault.kinds, per_second=fault.per_second)
    )
    try:
        with excuse:
            await under_way(setting, before)
            await fault.inject(setting)
    finally:
        ids = await loading
    await setting.settled(ids, seconds=fault.seconds)
    return ids


async def timed(setting: Setting, fault: Fault) -> Injected:
    """As `inject`, but says what went wrong in place of raising it."""
    began = time.monotonic()
    problem = None
    try:
        await inject(setting, fault)
    except (AssertionError, TimeoutError, KafkaError) as error:
        problem = str(error) or type(error).__name__
    return Injected(fault.name, fault.requests, time.monotonic() - began, problem)


async def under_way(setting: Setting, before: int) -> None:
    """Return once some of the requests sent after the first `before` have ended."""

    def some_ended() -> bool:
        fresh = list(setting.load.sent)[before:]
        return sum(each in setting.tape.ends for each in fresh) >= min(5, len(fresh)) > 0

    await setting.tape.until(some_ended, "the load to be under way")


async def kill(setting: Setting, name: str) -> None:
    """SIGKILL a process; what a caller had in flight then may be paid again."""
    await setting.cluster.workers[name].kill()
    await setting.note_death(name)
