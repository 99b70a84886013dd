"""How late the event loop is: the first sign of a process that has too much to do."""

import asyncio
from collections.abc import Callable

_PERIOD_SECONDS = 0.5


async def measure_delay(tell: Callable[[float], None]) -> None:
    """Sleep again and again, and tell how many seconds too late each sleep ended."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _PERIOD_SECONDS
        await asyncio.sleep(_PERIOD_SECONDS)
        tell(max(0.0, loop.time() - due))
