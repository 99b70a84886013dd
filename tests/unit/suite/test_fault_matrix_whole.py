"""The short matrix, which CI runs, leaves nothing out of what can be injected."""

from collections import Counter

from harness.catalogue import BROKER_AWAY_LONG, CATALOGUE, SHORT
from harness.crash import CRASHES, ROUNDS

from millrace.streams.crash_points import CrashPoint


def test_every_fault_is_in_the_short_matrix_once() -> None:
    """But for the long outage, which `make faults` draws."""
    injected = Counter(name for fault in SHORT for name in fault.parts or (fault.name,))

    assert injected == Counter(each.name for each in CATALOGUE if each is not BROKER_AWAY_LONG)


def test_every_crash_point_is_passed_by_some_process() -> None:
    """One that the harness does not know proves nothing."""
    assert {case.point for case in CRASHES} == set(CrashPoint)


def test_every_death_is_in_the_short_matrix_once() -> None:
    """Whatever the rounds are."""
    died = Counter(case.name for cases in ROUNDS.values() for case in cases)

    assert died == Counter(case.name for case in CRASHES)
