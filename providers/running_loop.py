"""The running event loop, without asking the system which process this is.

Until Python 3.12 `asyncio.get_running_loop` makes a system call (getpid) each time, and so does all
that calls it: `create_task`, `current_task`, `timeout`. For a call that asks ten times this was 3 %
of a worker's CPU time.
"""

import asyncio
import sys
import threading

_of_this_thread = threading.local()

if sys.version_info >= (3, 12):
    running_loop = asyncio.get_running_loop
else:

    def running_loop() -> asyncio.AbstractEventLoop:
        """The loop that runs in this thread.

        Raises:
            RuntimeError: None does.
        """
        loop: asyncio.AbstractEventLoop | None = getattr(_of_this_thread, "loop", None)
        if loop is None or not loop.is_running():
            loop = _of_this_thread.loop = asyncio.get_running_loop()
        return loop
