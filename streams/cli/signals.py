"""Signals: SIGTERM and Ctrl-C ask for a good end, the second at once; SIGHUP for new settings."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_KILLED_BY = 128
"""Added to a signal's number, as shells do."""


@contextmanager
def stop_on_signals(
    stop: asyncio.Event, *, on_first: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Set `stop` at the first signal, and end the process at the second; needs a running loop."""
    loop = asyncio.get_running_loop()

    def received(number: int) -> None:
        if stop.is_set():
            # Not through the interpreter's exit, which would wait for threads.
            os._exit(_KILLED_BY + number)
        stop.set()
        on_first()

    for number in _STOPPING:
        loop.add_signal_handler(number, received, number)
    try:
        yield
    finally:
        for number in _STOPPING:
            loop.remove_signal_handler(number)


@contextmanager
def reload_on_hangup(reload: asyncio.Event) -> Iterator[None]:
    """Set `reload` at each SIGHUP, where there is that signal (not on Windows)."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
