"""Places where a process dies on purpose, so that tests can prove that nothing is lost there.

Each is a window between two steps that a crash must not tear apart. Production arms none: passing
one then costs a look at `armed`. Where the windows lie, and what must hold after a death in
each, stands in docs/reliability.md.
"""

import os
import signal
from collections.abc import Mapping
from enum import StrEnum

from millrace.schemas.errors import ConfigurationError

VARIABLE = "MILLRACE_CRASH_POINT"
"""`NAME` or `NAME:N`, for the N-th time that the place is passed."""


class CrashPoint(StrEnum):
    """The windows, named for what has been done when the process dies."""

    OUTPUTS_ACKNOWLEDGED = "outputs-acknowledged"
    """Made from an event and held by the broker; its state is not written."""
    STATE_WRITTEN = "state-written"
    """The state is in its changelog; the event is not committed."""
    TIMEOUT_WRITTEN = "timeout-written"
    """A join's time-out is on the topic; nobody has acted on it."""
    CALL_RESERVED = "call-reserved"
    """In the ledger; the provider has not heard of the call."""
    CALL_ANSWERED = "call-answered"
    """The answer is here, and nothing of it is written."""
    CALL_PUT_OFF = "call-put-off"
    """On the retries topic; the call's offset is not committed."""
    CALL_ACKNOWLEDGED = "call-acknowledged"
    """All that a call gave rise to is held by the broker; its offset is not committed."""
    RETRY_SENT_ON = "retry-sent-on"
    """A call that waited is on its provider's topic again; its wait is not committed."""
    DRAINED = "drained"
    """Calls have ended in a rebalance or at shutdown; the last offsets are not committed."""
    ROWS_INSERTED = "rows-inserted"
    """The store holds the batch; its offsets are not committed."""


class _Fuse:
    """Counts how often its place is passed."""

    def __init__(self, point: CrashPoint, times: int) -> None:
        self.point = point
        self.left = times


armed: _Fuse | None = None
"""Look here before `reach`: None in production."""


def arm(environ: Mapping[str, str]) -> CrashPoint | None:
    """Arm what the environment names; returns it, or None where it names nothing.

    Raises:
        ConfigurationError: There is no such place.
    """
    global armed  # noqa: PLW0603 (one process dies once)
    wanted = environ.get(VARIABLE)
    if not wanted:
        return None
    name, _, times = wanted.partition(":")
    if name not in set(CrashPoint) or (times and not times.isdecimal()) or times == "0":
        raise ConfigurationError(
            f"{VARIABLE}={wanted!r}: give NAME or NAME:N with one of {', '.join(CrashPoint)}; "
            "outside of tests, leave it unset"
        )
    armed = _Fuse(CrashPoint(name), int(times or 1))
    return armed.point


def reach(point: CrashPoint) -> None:
    """Die here as by SIGKILL if this place is armed and has been passed often enough."""
    if armed is None or armed.point is not point:
        return
    armed.left -= 1
    if armed.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
