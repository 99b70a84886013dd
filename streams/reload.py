"""Taking new settings while the process runs: on SIGHUP, and when a file changes."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import structlog

from millrace.schemas.errors import ConfigurationError
from millrace.streams.config_source import ConfigSource
from millrace.streams.live_settings import LiveSettings

log = structlog.get_logger(__name__)

ReloadResult = Literal["applied", "refused"]


class Reload:
    """Reads the settings anew and hands them on; bad ones change nothing, and are logged.

    They are read when `asked` is set, whether or not a file has changed, and when one has. Files
    are looked at every `poll_seconds` (0 never does), by content: a mounted directory that
    is swapped counts, a file that is only touched does not. A file is read once it has stayed the
    same between two looks, so that one which is just being written is not.
    """

    def __init__(
        self,
        *,
        source: ConfigSource,
        live: LiveSettings,
        asked: asyncio.Event,
        poll_seconds: float,
        on_done: Callable[[ReloadResult], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._live = live
        self._poll_seconds = poll_seconds
        self._on_done = on_done
        self._asked = asked
        self._applied = source.fingerprint()

    async def run(self) -> None:
        """Wait for reasons to read the settings, until cancelled."""
        seen = self._applied
        while True:
            asked = await self._asked_within(self._poll_seconds or None)
            before, seen = seen, self._source.fingerprint()
            if asked or (seen == before and seen != self._applied):
                self._asked.clear()
                self._applied = seen
                await self.once()

    async def once(self) -> bool:
        """Read the settings and put them in force; whether that could be done."""
        try:
            settings, environ = self._source.load()
            waiting = await self._live.apply(settings, environ)
        except ConfigurationError as error:
            log.warning("config.refused", error=error.message, still="the settings before")
            self._on_done("refused")
            return False
        log.info("config.reloaded")
        for each in waiting:
            log.warning("config.takes_restart", setting=each)
        self._on_done("applied")
        return True

    async def _asked_within(self, seconds: float | None) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        return self._asked.is_set()
