"""Dropping states that have been remembered long enough."""

import asyncio
import time
from collections.abc import Callable

from millrace.streams.state_table import StateTable
from millrace.streams.stream_app import StreamApp

PASS_SECONDS = 30.0
_AT_A_TIME = 5_000


async def forget_old_states(
    app: StreamApp,
    table: StateTable,
    *,
    window_seconds: float,
    now: Callable[[], float] = time.time,
) -> None:
    """Delete states untouched for `window_seconds`, until cancelled.

    Only those of partitions held here get a tombstone; others are dropped from memory.

    Raises:
        BrokerError: A tombstone cannot be written.
    """
    while True:
        await asyncio.sleep(min(PASS_SECONDS, window_seconds))
        if not app.ready.is_set():
            continue
        held = app.held_partitions()
        for key, partition in table.untouched_since(now() - window_seconds, limit=_AT_A_TIME):
            table.delete(key)
            if partition in held:
                await (await table.write(key, None, partition=partition))
