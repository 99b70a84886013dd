"""Deaths at named places of the code, each with the load that leads there."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from harness.fault import all_of
from harness.load import KINDS, LATE, WAITING, Kind
from harness.setting import Setting

from millrace.streams.crash_points import VARIABLE, CrashPoint

DEATH_SECONDS = 40.0


async def _no_more(_: Setting) -> None:
    """The load alone leads there."""


@dataclass(frozen=True)
class Crash:
    """A process of a role that dies when it passes a place for the `times`-th time."""

    point: CrashPoint
    role: str
    times: int = 8
    kinds: Sequence[Kind] = KINDS
    requests: int = 40
    without: str | None = None
    """A role that does not run until the death."""
    then: Callable[[Setting], Awaitable[None]] = _no_more
    """What leads there besides the load."""
    afterwards: Callable[[Setting], Awaitable[None]] = _no_more
    """What puts an end to that, once the death has been noted: others commit soon after it."""

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self.role} dies at {self.point.value}"


async def crash(setting: Setting, case: Crash) -> None:
    """Let it die there under load and start it again; everything ends well.

    Raises:
        AssertionError: It does not, or the place was never passed.
    """
    await crash_together(setting, (case,))


async def crash_together(setting: Setting, cases: Sequence[Crash]) -> None:
    """Several processes in one round, each at its place; the load is the first one's.

    Raises:
        AssertionError: As `crash`.
    """
    workers = setting.cluster.workers
    first = cases[0]
    if first.without is not None:
        await workers[first.without].terminate()
    await all_of(*(_arm(setting, case) for case in cases))
    loading = asyncio.create_task(
        setting.load.send(first.requests, kinds=first.kinds, per_second=40.0)
    )
    try:
        await first.then(setting)
        await all_of(*(_die_and_come_back(setting, case) for case in cases))
        await first.afterwards(setting)
    except TimeoutError:
        names = ", ".join(case.name for case in cases)
        raise AssertionError(f"{names}: a place was not passed") from None
    finally:
        ids = await loading
        for worker in workers.values():
            if worker.pid is None:
                await worker.start()
    await setting.settled(ids)


async def _arm(setting: Setting, case: Crash) -> None:
    worker = setting.cluster.workers[case.role]
    await worker.terminate()
    await worker.start(**{VARIABLE: f"{case.point}:{case.times}"})


async def _die_and_come_back(setting: Setting, case: Crash) -> None:
    worker = setting.cluster.workers[case.role]
    status = await worker.wait_for_death(DEATH_SECONDS)
    assert status == -signal.SIGKILL, f"{case.name}: it ended with {status} instead"
    await setting.note_death(case.role)
    await worker.start()


async def _second_caller(setting: Setting) -> None:
    """A second member comes, so that the first one drains what it must give up."""
    await setting.cluster.add("caller", name="caller-guest")


async def _second_caller_leaves(setting: Setting) -> None:
    await setting.cluster.remove("caller-guest")


CRASHES = (
    Crash(CrashPoint.OUTPUTS_ACKNOWLEDGED, "router"),
    Crash(CrashPoint.STATE_WRITTEN, "router"),
    Crash(CrashPoint.OUTPUTS_ACKNOWLEDGED, "validator"),
    Crash(CrashPoint.STATE_WRITTEN, "validator"),
    Crash(
        CrashPoint.TIMEOUT_WRITTEN, "validator", times=2, kinds=LATE, requests=5, without="caller"
    ),
    Crash(CrashPoint.CALL_RESERVED, "caller"),
    Crash(CrashPoint.CALL_ANSWERED, "caller"),
    Crash(CrashPoint.CALL_ACKNOWLEDGED, "caller"),
    Crash(CrashPoint.CALL_PUT_OFF, "caller", times=3, kinds=WAITING, requests=8),
    Crash(CrashPoint.RETRY_SENT_ON, "caller", times=3, kinds=WAITING, requests=8),
    # Calls must be under way when the second member comes, which takes seconds to start.
    Crash(
        CrashPoint.DRAINED,
        "caller",
        times=1,
        requests=900,
        then=_second_caller,
        afterwards=_second_caller_leaves,
    ),
    Crash(CrashPoint.ROWS_INSERTED, "sink", times=2),
)
"""Each window of the code once, in each process that has it."""

_AT_ONCE = (
    (
        ("router", CrashPoint.OUTPUTS_ACKNOWLEDGED),
        ("validator", CrashPoint.OUTPUTS_ACKNOWLEDGED),
        ("caller", CrashPoint.CALL_RESERVED),
        ("sink", CrashPoint.ROWS_INSERTED),
    ),
    (
        ("router", CrashPoint.STATE_WRITTEN),
        ("validator", CrashPoint.STATE_WRITTEN),
        ("caller", CrashPoint.CALL_ANSWERED),
    ),
)
_ROUNDS = tuple(
    tuple(case for case in CRASHES if (case.role, case.point) in at_once) for at_once in _AT_ONCE
)
ROUNDS = (*_ROUNDS, *((case,) for case in CRASHES if not any(case in each for each in _ROUNDS)))
"""Every window once, those of different roles at the same time."""
