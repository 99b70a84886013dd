"""Samples where a process spends its CPU time, at a small part of what cProfile costs.

The kernel sends a signal for every so much CPU time used; its handler notes the stack. Time in C
counts for the Python line that called it. The handler runs in the main thread: where that has
used little of the time since the last signal, the sample counts for the other threads.
"""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

INTERVAL_SECONDS = 0.004
OTHERS = "(other threads)"
LOOP = "Runner.run"


class Samples:
    """How often each function was on top of the stack, anywhere on it, and what began it all."""

    def __init__(self) -> None:
        self.total = 0
        self._used = time.thread_time()
        self.roots: Counter[str] = Counter()
        """What the event loop called: a task's outermost coroutine, or a callback."""
        self.own: Counter[str] = Counter()
        self.cumulative: Counter[str] = Counter()

    def take(self, frame: FrameType | None) -> None:
        """Note one stack."""
        self.total += 1
        before, self._used = self._used, time.thread_time()
        if self._used - before < INTERVAL_SECONDS / 2:
            self.roots[OTHERS] += 1
            self.own[OTHERS] += 1
            self.cumulative[OTHERS] += 1
            return
        stack: list[str] = []
        while frame is not None and frame.f_code.co_qualname != LOOP:
            code = frame.f_code
            name = f"{_place(code.co_filename)}:{code.co_qualname}"
            if not stack:
                self.own[f"{name}:{frame.f_lineno}"] += 1
            stack.append(name)
            frame = frame.f_back
        self.roots[stack[-1] if stack else "(the event loop itself)"] += 1
        self.cumulative.update(set(stack))

    def lines(self, most: int) -> Iterator[str]:
        """The busiest functions, as text."""
        for title, counter in (
            ("by what the event loop called", self.roots),
            ("with all it calls", self.cumulative),
            ("itself", self.own),
        ):
            yield f"share of {self.total} samples, {title}"
            for name, count in counter.most_common(most):
                yield f"{100 * count / self.total:6.1f} %  {name}"


@contextmanager
def sampling() -> Iterator[Samples]:
    """Sample this process, main thread, while the block runs."""
    samples = Samples()
    signal.signal(signal.SIGPROF, lambda _, frame: samples.take(frame))
    signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)
    try:
        yield samples
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def _place(filename: str) -> str:
    """The end of a file's path, which tells its package."""
    return "/".join(Path(filename).parts[-3:])
