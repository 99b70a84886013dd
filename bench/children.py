"""Programs beside the benchmark, each on cores of its own, with what they use of CPU and memory.

A child prints one JSON object when it is ready and ends when its standard input closes, so none
outlives the benchmark, whatever happens to it.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")


class ChildFailedError(Exception):
    """A child ended before it was ready; the message holds what it said."""


def split_cores() -> tuple[set[int], set[int]]:
    """The core of the program that is measured, and those of everything else.

    On a machine with one core both are that one; the ratios say less then.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


class Child:
    """A program that runs while the block does."""

    def __init__(self, command: Sequence[str | Path], *, cores: set[int]) -> None:
        self._command = command
        self._cores = cores
        self._process: subprocess.Popen[str] | None = None
        self.said: dict[str, Any] = {}
        """What it printed when it was ready."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        os.sched_setaffinity(self._process.pid, self._cores)
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            code = self._process.wait()
            raise ChildFailedError(f"{' '.join(map(str, self._command))} ended with code {code}")
        self.said = json.loads(line)
        self.pid = int(self.said.get("pid", self._process.pid))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            try:
                self._process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """SIGKILL it, as a machine that fails would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def cpu_seconds(self) -> float:
        """User and system time since it began, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mb(self) -> tuple[float, float]:
        """Resident memory now and at its highest, in MB of 2**20 bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text("utf-8")
        sizes = dict(line.split(":", 1) for line in status.splitlines() if line.startswith("Vm"))
        now, most = (int(sizes[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, most


def python(module: str, *arguments: str) -> list[str | Path]:
    """The command that runs a module of this package."""
    return [sys.executable, "-m", f"bench.{module}", *arguments]


async def until_stdin_closes() -> None:
    """For children: return when whoever started this process lets go of it."""
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look() -> None:
        if not os.read(0, 4096):
            closed.set()

    loop.add_reader(0, look)
    try:
        await closed.wait()
    finally:
        loop.remove_reader(0)


def say_ready(**what: Any) -> None:
    """For children: tell whoever started this process that it may begin."""
    print(json.dumps(what), flush=True)
