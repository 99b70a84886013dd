"""How busy this machine is: processors, memory, graphics cards.

Linux tells in `/proc`, and in the files of its control group where the process runs in a
container; elsewhere only the load average is known. Cards of NVIDIA are asked through NVML,
where the package `nvidia-ml-py` (the extra `gpu`) is installed. What cannot be learnt is None.
"""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from millrace.schemas.provider_health import Resources

_BYTES_PER_KIB = 1024


@dataclass(frozen=True, slots=True)
class Graphics:
    """One graphics card."""

    busy: float | None
    """The share of the last moments in which it computed, from 0 to 1."""
    memory_used_bytes: int
    memory_total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalResources:
    """What one look at the machine showed."""

    cpu: float | None
    """The share of all processors' time that was used since the look before, from 0 to 1."""
    memory_used_bytes: int | None
    """What is not available to programs: caches that would be given up do not count."""
    memory_total_bytes: int | None
    """The machine's, or the container's limit where that is less."""
    graphics: tuple[Graphics, ...] = ()

    def summary(self) -> Resources:
        """As `llm.provider-health` carries it."""
        busy = [card.busy for card in self.graphics if card.busy is not None]
        return Resources(
            cpu=self.cpu,
            memory=_share(self.memory_used_bytes, self.memory_total_bytes),
            gpu=max(busy, default=None),
            gpu_memory=max(
                (
                    share
                    for card in self.graphics
                    if (share := _share(card.memory_used_bytes, card.memory_total_bytes))
                    is not None
                ),
                default=None,
            ),
        )


class ResourceMonitor:
    """Looks at this machine. Never fails, and takes a few milliseconds with cards, else less.

    Give folders to read other ones than the system's, and `nvml` to use a given library.
    """

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        cgroup: Path = Path("/sys/fs/cgroup"),
        nvml: Callable[[], ModuleType | None] | None = None,
    ) -> None:
        self._proc = proc
        self._cgroup = cgroup
        self._ticks: tuple[int, int] | None = _ticks(_text(proc / "stat"))
        self._nvml = _ready((nvml or _installed_nvml)())

    def look(self) -> LocalResources:
        """Take a look; the use of processors is that since the look before, or the beginning."""
        used, total = self._memory()
        return LocalResources(
            cpu=self._cpu(),
            memory_used_bytes=used,
            memory_total_bytes=total,
            graphics=_graphics(self._nvml),
        )

    def _cpu(self) -> float | None:
        before, self._ticks = self._ticks, _ticks(_text(self._proc / "stat"))
        if before is None or self._ticks is None:
            return _load_average()
        busy, total = self._ticks[0] - before[0], self._ticks[1] - before[1]
        return _share(max(0, busy), total) if total > 0 else None

    def _memory(self) -> tuple[int | None, int | None]:
        total, available = _meminfo(_text(self._proc / "meminfo"))
        if total is None or available is None:
            return None, total
        limit = _number(_text(self._cgroup / "memory.max"))
        current = _number(_text(self._cgroup / "memory.current"))
        if limit is not None and current is not None and limit < total:
            # Files that were read count there too; the kernel gives those up when asked.
            cached = _named(_text(self._cgroup / "memory.stat"), "inactive_file") or 0
            return max(0, current - cached), limit
        return max(0, total - available), total


def _share(part: int | None, whole: int | None) -> float | None:
    return min(1.0, part / whole) if part is not None and whole else None


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii", "replace")
    except OSError:
        return ""


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _named(text: str, name: str) -> int | None:
    """The number in the line of this name; `memory.stat` and `meminfo` are written so."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0].rstrip(":") == name:
            return _number(words[1])
    return None


def _meminfo(text: str) -> tuple[int | None, int | None]:
    """Total and available memory, in bytes."""
    total, available = _named(text, "MemTotal"), _named(text, "MemAvailable")
    return (
        None if total is None else total * _BYTES_PER_KIB,
        None if available is None else available * _BYTES_PER_KIB,
    )


def _ticks(text: str) -> tuple[int, int] | None:
    """Busy and all ticks of all processors: the first line of `/proc/stat` (proc(5)).

    user nice system idle iowait irq softirq steal; guest time stands in user already.
    """
    words = text.partition("\n")[0].split()
    counts = [_number(word) for word in words[1:9]]
    numbers = [number for number in counts if number is not None]
    if not words or words[0] != "cpu" or len(numbers) < len(counts) or len(numbers) < 5:  # noqa: PLR2004 - up to iowait
        return None
    total = sum(numbers)
    return total - numbers[3] - numbers[4], total


def _load_average() -> float | None:
    try:
        return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except (OSError, AttributeError):
        return None  # Windows has none


def _installed_nvml() -> ModuleType | None:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _ready(nvml: ModuleType | None) -> ModuleType | None:
    """The library, if there is a driver for it."""
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _graphics(nvml: ModuleType | None) -> tuple[Graphics, ...]:
    if nvml is None:
        return ()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(nvml.nvmlDeviceGetCount())]
        return tuple(_card(nvml, handle) for handle in handles)
    except nvml.NVMLError:
        return ()


def _card(nvml: ModuleType, handle: object) -> Graphics:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        busy: float | None = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except nvml.NVMLError:
        busy = None  # shared cards (MIG) do not say
    return Graphics(busy, int(memory.used), int(memory.total))
