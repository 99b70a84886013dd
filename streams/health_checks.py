"""Finding out whether a provider entry can be reached, without making a call."""

import asyncio
from collections.abc import Awaitable, Callable

from millrace.schemas.errors import ProviderError, ProviderUnavailableError
from millrace.streams.entry_health import EntryHealth
from millrace.streams.health_settings import HealthSettings


class HealthChecks:
    """Reaches an entry again and again, and tells its health what came of it.

    `check` spends no money; it raises a `ProviderError` where the entry cannot be reached.
    `every_seconds` is asked before each wait, so that it may change; 0 rests for as long as an
    entry out of reach does, and asks again.
    """

    def __init__(
        self,
        *,
        check: Callable[[], Awaitable[None]],
        health: EntryHealth,
        settings: HealthSettings,
        every_seconds: Callable[[], float],
    ) -> None:
        self._check = check
        self._health = health
        self._settings = settings
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            every = self._every_seconds()
            if every > 0:
                await self.once()
            reachable = every > 0 and self._health.is_available()
            await asyncio.sleep(every if reachable else self._settings.recheck_seconds)

    async def once(self) -> None:
        """Check now."""
        began = self._health.moment()
        limit = self._settings.check_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                await self._check()
        except TimeoutError:
            error = ProviderUnavailableError(
                f"no answer to a health check within {limit:g} s", code="provider_timeout"
            )
            self._health.check_failed(error, began=began)
        except ProviderError as error:
            self._health.check_failed(error, began=began)
        else:
            self._health.reached()
