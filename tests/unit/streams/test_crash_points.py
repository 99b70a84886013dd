"""Crash points: nothing in production, one death where a test asks for it."""

import os
import signal

import pytest

from millrace.schemas.errors import ConfigurationError
from millrace.streams import crash_points
from millrace.streams.crash_points import VARIABLE, CrashPoint, arm, reach


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that would have been sent."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(crash_points, "armed", None)
    return sent


def test_nothing_is_armed_in_production(deaths: list[tuple[int, int]]) -> None:
    """An environment without the variable arms nothing."""
    assert arm({"PATH": "/bin"}) is None
    for point in CrashPoint:
        reach(point)

    assert crash_points.armed is None
    assert deaths == []


def test_the_process_dies_when_its_place_is_passed_the_nth_time(
    deaths: list[tuple[int, int]],
) -> None:
    """By SIGKILL, at the named place only, once."""
    arm({VARIABLE: "rows-inserted:2"})
    reach(CrashPoint.ROWS_INSERTED)
    reach(CrashPoint.DRAINED)
    assert deaths == []

    reach(CrashPoint.ROWS_INSERTED)
    reach(CrashPoint.ROWS_INSERTED)

    assert deaths == [(os.getpid(), signal.SIGKILL)]


@pytest.mark.parametrize("value", ["nowhere", "drained:0", "drained:x", "drained:-1"])
def test_a_place_that_is_not_there_is_refused(value: str, deaths: list[tuple[int, int]]) -> None:
    """A test that would prove nothing must not pass."""
    with pytest.raises(ConfigurationError, match=VARIABLE):
        arm({VARIABLE: value})
