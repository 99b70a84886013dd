"""Deaths at named places of the code, each with the load that leads there."""

import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from harness.fault import all_of, while_loaded
from harness.load import KINDS, LATE, UNDER_WAY, WAITING, Kind
from harness.outside import ROLES
from harness.setting import Setting

from millrace.streams.crash_points import VARIABLE, CrashPoint

_QUIET_SECONDS = 40.0
"""Nothing is written for so long: then the place is not passed any more."""


async def _no_more(_: Setting) -> None:
    """The load alone leads there."""


@dataclass(frozen=True)
class Crash:
    """A process of a role that dies when it passes a place for the `times`-th time."""

    point: CrashPoint
    role: str
    times: int = 8
    kinds: Sequence[Kind] = KINDS
    requests: int = 4000
    """No more than these, and none once everything has happened."""
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


async def crash(setting: Setting, *cases: Crash) -> None:
    """Let processes die at these places under load and start them again; everything ends well.

    Those of one role die one after the other, each one's successor at the next place; roles do so
    at the same time. What leads there besides the load is the first case's.

    Raises:
        AssertionError: It does not, or a place was never passed.
    """
    workers = setting.cluster.workers
    first = cases[0]
    in_turn = [[case for case in cases if case.role == role] for role in ROLES]
    in_turn = [each for each in in_turn if each]
    if first.without is not None:
        await workers[first.without].terminate()
    await all_of(*(_arm(setting, each[0]) for each in in_turn))
    over = False

    async def die() -> None:
        nonlocal over
        await all_of(first.then(setting), *(_die_in_turn(setting, each) for each in in_turn))
        over = True
        await first.afterwards(setting)

    sending = setting.load.send(
        first.requests,
        kinds=list({kind.name: kind for case in cases for kind in case.kinds}.values()),
        per_second=40.0,
        enough=lambda: over,
    )
    try:
        ids = await while_loaded(setting, sending, die())
    finally:
        for worker in workers.values():
            if worker.pid is not None and worker.life:
                # Its place was not passed: it must not die of it later.
                await worker.kill()
                await setting.note_death(worker.name)
            if worker.pid is None:
                await worker.start()
    await setting.settled(ids)


async def _arm(setting: Setting, case: Crash) -> None:
    worker = setting.cluster.workers[case.role]
    await worker.terminate()
    await worker.start(**_armed(case))


def _armed(case: Crash) -> dict[str, str]:
    return {VARIABLE: f"{case.point}:{case.times}"}


async def _die_in_turn(setting: Setting, cases: Sequence[Crash]) -> None:
    worker = setting.cluster.workers[cases[0].role]
    for number, case in enumerate(cases):
        await setting.tape.until(
            worker.died.is_set, f"{case.name} to come about", quiet_seconds=_QUIET_SECONDS
        )
        status = await worker.gone()
        assert status == -signal.SIGKILL, f"{case.name}: it ended with {status} instead"
        await setting.note_death(case.role)
        if number + 1 < len(cases):
            # It may come to the next place before it is ready.
            await worker.begin(**_armed(cases[number + 1]))
        else:
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
    Crash(CrashPoint.CALL_PUT_OFF, "caller", times=3, kinds=WAITING),
    Crash(CrashPoint.RETRY_SENT_ON, "caller", times=3, kinds=WAITING),
    Crash(
        CrashPoint.DRAINED,
        "caller",
        times=1,
        kinds=UNDER_WAY,
        then=_second_caller,
        afterwards=_second_caller_leaves,
    ),
    Crash(CrashPoint.ROWS_INSERTED, "sink", times=2),
)
"""Each window of the code once, in each process that has it."""

_APART = {CrashPoint.TIMEOUT_WRITTEN, CrashPoint.DRAINED}
ROUNDS = {
    "every role dies wherever load leads it": tuple(
        case for case in CRASHES if case.point not in _APART
    ),
    **{case.name: (case,) for case in CRASHES if case.point in _APART},
}
"""Every window once; those of one role in turn, those of different roles at the same time."""
