"""Programs side by side: the same load and the same faults at the same moments, one oracle.

The oracle is the simulator, which sold the calls, and what lies on the topics in the end. No
program is asked how it did.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from harness.cluster import PROMPT_MARK
from harness.load import Kind, Load
from harness.oracle import by_request
from harness.setting import Setting
from harness.tape import Tape

_QUIET_SECONDS = 20.0
"""Nothing new for so long: then nothing more comes."""
_OPENAI = {"providers": ["openai"]}
KINDS = (
    Kind("plain", 6, fields={"route": _OPENAI}),
    Kind("streamed", 3, "latency=150 tokens=20 pace=60", {"stream": True, "route": _OPENAI}),
    Kind("slow", 1, "latency=2500", {"route": _OPENAI}),
)
"""Nothing is wrong with these upstream, and each is worth one call; some take longer than others,
as models do."""
PER_SECOND = 30.0


class Contender(Protocol):
    """A program that answers requests from a topic, in one process or several."""

    name: str
    topic: str
    """Where it reads requests."""
    tape: Tape
    """What it writes."""

    async def kill(self) -> None:
        """SIGKILL all of it, and start it again."""
        ...

    async def restart(self) -> None:
        """Stop all of it as its makers would have it, and start it again."""
        ...

    def told(self) -> Mapping[str, int]:
        """The calls of each request that its own records tell of."""
        ...


Enter = Callable[[Setting, int], AbstractAsyncContextManager[Contender]]
"""Starts a program for a run of that seed."""


@dataclass(frozen=True, slots=True)
class Blow:
    """A fault that is the same for every program."""

    name: str
    strike: Callable[[Setting, Contender], Awaitable[None]]
    times: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What a program did with the requests it was sent."""

    name: str
    fault: str
    sent: int
    answered: int
    paid_again: int
    """Calls that the simulator sold beyond the first one of each request."""
    untold: int
    """Calls that it sold and that no record of the program tells of: missing in any books."""

    @property
    def lost(self) -> int:
        """Requests without any answer."""
        return self.sent - self.answered


async def _kill(_: Setting, contender: Contender) -> None:
    await contender.kill()


async def _restart(_: Setting, contender: Contender) -> None:
    await contender.restart()


async def _bounce(setting: Setting, _: Contender) -> None:
    setting.cluster.kafka.kill()
    await asyncio.to_thread(setting.cluster.kafka.start)


BLOWS = (
    Blow("3 SIGKILLs", _kill, 3),
    Blow("3 graceful restarts", _restart, 3),
    Blow("the broker killed once", _bounce, 1),
)


async def compare(
    setting: Setting, programs: Sequence[Enter], *, seed: int, requests: int
) -> AsyncIterator[Loss]:
    """Each blow to each program, one run after the other."""
    for number, blow in enumerate(BLOWS, 1):
        for enter in programs:
            # Ids of their own: a program remembers those that it has seen.
            yield await _loss(setting, enter, blow, seed=seed + number * 1_000_000, count=requests)


async def _loss(setting: Setting, enter: Enter, blow: Blow, *, seed: int, count: int) -> Loss:
    before = len(await setting.cluster.upstream.lines())
    async with (
        enter(setting, seed) as contender,
        Load(
            bootstrap_servers=setting.cluster.bootstrap_servers,
            topic=contender.topic,
            mark=PROMPT_MARK,
            seed=seed,
        ) as load,
    ):
        began = asyncio.get_running_loop().time()
        sending = asyncio.create_task(load.send(count, kinds=KINDS, per_second=PER_SECOND))
        for moment in moments(seed, blow.times, count / PER_SECOND):
            await asyncio.sleep(max(0.0, began + moment - asyncio.get_running_loop().time()))
            await blow.strike(setting, contender)
        await sending
        await _quiet(contender.tape)
        sold = Counter(
            request_id
            for request_id, _ in by_request((await setting.cluster.upstream.lines())[before:])
        )
        told = contender.told()
        return Loss(
            name=contender.name,
            fault=blow.name,
            sent=len(load.sent),
            answered=sum(each in contender.tape.ends for each in load.sent),
            paid_again=sum(sold[each] - 1 for each in load.sent if sold[each] > 1),
            untold=sum(max(0, sold[each] - told.get(each, 0)) for each in load.sent),
        )


def moments(seed: int, times: int, seconds: float) -> list[float]:
    """When to strike, in seconds from the first request: once in each part of the time."""
    draw = random.Random(f"blows {seed}")
    return [(part + draw.uniform(0.3, 0.7)) * seconds / times for part in range(times)]


async def _quiet(tape: Tape) -> None:
    seen = -1
    while seen != (now := len(tape.ends)):
        seen = now
        await asyncio.sleep(_QUIET_SECONDS)


class _Millrace:
    """This pipeline: a process for each role, all of them struck."""

    name = "Millrace, every process"

    def __init__(self, setting: Setting) -> None:
        self._cluster = setting.cluster
        self.topic = setting.cluster.topic("requests")
        self.tape = setting.tape

    async def kill(self) -> None:
        workers = self._cluster.workers.values()
        await asyncio.gather(*(each.kill() for each in workers))
        await asyncio.gather(*(each.start() for each in workers))

    async def restart(self) -> None:
        workers = self._cluster.workers.values()
        await asyncio.gather(*(each.terminate() for each in workers))
        await asyncio.gather(*(each.start() for each in workers))

    def told(self) -> Mapping[str, int]:
        rows = {
            entry.body["row_id"]
            for entry in self.tape.entries["usage"]
            if entry.schema == "usage-event"
        }
        return Counter(row.split("/", 1)[0] for row in rows)


@asynccontextmanager
async def millrace(setting: Setting, seed: int) -> AsyncIterator[Contender]:
    """The pipeline that runs already."""
    yield _Millrace(setting)
