"""How a process of the pipeline runs: its event loop, and its garbage collector."""

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_YOUNG_OBJECTS = 200_000
_YOUNG_PER_MIDDLE = 5
_MIDDLE_PER_OLD = 20
"""Python's 700, 10 and 10 are for small programs: here some thousand requests under way hold a
hundred thousand objects, so that each collection finds nearly everything still in use, and leaves
the processor's caches full of what is not needed next. What nobody holds any more and only a
collection finds (cycles: a connection that broke) may take up to about 50 MB until then."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run it as `asyncio.run` does, on uvloop where there is one (not on Windows)."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 (not on Windows)

    return uvloop.run(main)


def calm_garbage_collector() -> None:
    """Leave what the process has loaded out of garbage collection, and collect more rarely.

    To be called once everything is loaded and runs. Measured in `bench/`.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_PER_MIDDLE, _MIDDLE_PER_OLD)
