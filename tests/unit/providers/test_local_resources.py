"""How busy the machine is, read from files as Linux writes them."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.local_resources import (
    Graphics,
    LocalResources,
    ResourceMonitor,
    _meminfo,
    _named,
    _ticks,
)
from millrace.schemas.provider_health import Resources

MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\n"


def _nothing() -> ModuleType | None:
    return None


class _Machine:
    """Files to look at."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.cgroup = folder / "proc", folder / "cgroup"
        self.proc.mkdir()
        self.cgroup.mkdir()

    def runs(self, ticks: str) -> None:
        (self.proc / "stat").write_text(f"cpu  {ticks}\ncpu0 1 2 3 4\n")

    def holds(self, meminfo: str, **cgroup: str) -> None:
        (self.proc / "meminfo").write_text(meminfo)
        for name, text in cgroup.items():
            (self.cgroup / f"memory.{name}").write_text(text)

    def monitor(self, nvml: Any = _nothing) -> ResourceMonitor:
        return ResourceMonitor(proc=self.proc, cgroup=self.cgroup, nvml=nvml)


@pytest.fixture
def machine(tmp_path: Path) -> _Machine:
    """A machine that says nothing yet."""
    return _Machine(tmp_path)


def test_processor_time_is_counted_between_two_looks(machine: _Machine) -> None:
    """Waiting for a disk is idle; a guest's time is not counted twice."""
    machine.runs("100 0 100 700 100 0 0 0 50 0")
    monitor = machine.monitor()
    machine.runs("140 0 120 730 110 0 0 0 90 0")

    assert monitor.look().cpu == pytest.approx(60 / 100)
    assert monitor.look().cpu is None


def test_memory_that_can_be_given_up_is_not_used(machine: _Machine) -> None:
    """As the kernel itself counts what is available."""
    machine.holds(MEMINFO, max="max\n", current="5000\n")

    seen = machine.monitor().look()

    assert (seen.memory_used_bytes, seen.memory_total_bytes) == (600 * 1024, 1000 * 1024)
    assert seen.summary().memory == pytest.approx(0.6)


def test_a_container_has_what_its_limit_allows(machine: _Machine) -> None:
    """Without files that it merely read."""
    machine.holds(
        MEMINFO, max="409600\n", current="307200\n", stat="anon 1\ninactive_file 102400\n"
    )

    seen = machine.monitor().look()

    assert (seen.memory_used_bytes, seen.memory_total_bytes) == (204800, 409600)


def test_a_machine_that_says_nothing_is_no_error(machine: _Machine) -> None:
    """At least the load average is known on every Unix."""
    seen = machine.monitor().look()

    assert (seen.memory_used_bytes, seen.memory_total_bytes, seen.graphics) == (None, None, ())
    assert seen.summary().memory is None
    assert seen.cpu is not None
    assert 0 <= seen.cpu <= 1


def test_this_very_machine_can_be_looked_at() -> None:
    """With whatever it has."""
    seen = ResourceMonitor().look().summary()

    assert all(0 <= share <= 1 for _, share in seen if share is not None)


class _NvmlError(Exception):
    pass


class _Memory:
    used, total = 6, 8


class _Rates:
    gpu = 75


def _nvml(*, cards: int = 1, broken: str = "") -> ModuleType:
    """NVML's Python package, as far as it is used."""
    library = ModuleType("pynvml")

    def give(name: str, value: Any) -> Any:
        def function(*_: Any) -> Any:
            if name == broken:
                raise _NvmlError
            return value

        return function

    answers = {
        "nvmlInit": None,
        "nvmlDeviceGetCount": cards,
        "nvmlDeviceGetHandleByIndex": object(),
        "nvmlDeviceGetMemoryInfo": _Memory,
        "nvmlDeviceGetUtilizationRates": _Rates,
    }
    for name, value in answers.items():
        setattr(library, name, give(name, value))
    library.NVMLError = _NvmlError  # type: ignore[attr-defined]
    return library


@pytest.mark.parametrize(
    ("library", "seen"),
    [
        (_nvml(cards=2), (Graphics(0.75, 6, 8),) * 2),
        (_nvml(cards=0), ()),
        (_nvml(broken="nvmlDeviceGetUtilizationRates"), (Graphics(None, 6, 8),)),
        (_nvml(broken="nvmlDeviceGetMemoryInfo"), ()),
        (_nvml(broken="nvmlDeviceGetCount"), ()),
        (_nvml(broken="nvmlInit"), ()),
        (None, ()),
    ],
)
def test_graphics_cards_are_seen_where_there_are_any(
    machine: _Machine, library: ModuleType | None, seen: tuple[Graphics, ...]
) -> None:
    """A missing driver, or one that fails, is as no card."""
    assert machine.monitor(nvml=lambda: library).look().graphics == seen


def test_the_summary_names_the_busiest_and_the_fullest() -> None:
    """Which need not be the same card."""
    cards = (Graphics(0.1, 9, 10), Graphics(0.9, 1, 10), Graphics(None, 0, 10))

    seen = LocalResources(
        cpu=0.5, memory_used_bytes=1, memory_total_bytes=4, graphics=cards
    ).summary()

    assert seen == Resources(cpu=0.5, memory=0.25, gpu=0.9, gpu_memory=0.9)


@given(text=st.text(max_size=80) | st.from_regex(r"cpu( \d{1,4}){0,10}", fullmatch=True))
@settings(max_examples=60)
def test_whatever_the_files_hold_is_read_or_left(text: str) -> None:
    """No look fails."""
    ticks = _ticks(text)
    assert ticks is None or 0 <= ticks[0] <= ticks[1]
    assert _meminfo(text) == (None, None)
    assert _named(text, "MemTotal") is None
