"""SIGHUP asks for new settings instead of ending the process."""

import asyncio
import os
import signal

import pytest

from millrace.streams.cli.signals import reload_on_hangup


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal here")
async def test_each_hangup_is_heard() -> None:
    """Also the second one."""
    reload = asyncio.Event()
    with reload_on_hangup(reload):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.wait_for(reload.wait(), 5)
            reload.clear()
