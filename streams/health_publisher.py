"""Telling every router how the providers are doing."""

import asyncio
from collections.abc import Callable, Iterable

from millrace.schemas.provider_health import ProviderHealth, ProviderState
from millrace.streams.publisher import Publisher


class HealthPublisher:
    """Writes what this process knows: changes of state at once, everything every few seconds.

    `read` gives a report of each entry and of each of its models. A report is not written before
    the one ahead of it has been delivered, so a flapping circuit cannot flood the topic.
    """

    def __init__(
        self,
        *,
        publisher: Publisher,
        topic: str,
        read: Callable[[], Iterable[ProviderHealth]],
        interval_seconds: float,
    ) -> None:
        self._publisher = publisher
        self._topic = topic
        self._read = read
        self._interval_seconds = interval_seconds
        self._changed = asyncio.Event()
        self._told: dict[str, tuple[ProviderState, tuple[str, ...]]] = {}

    def changed(self) -> None:
        """Say that a state may have changed, or a key was set aside."""
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            BrokerError: A report cannot be written.
        """
        loop = asyncio.get_running_loop()
        while True:
            again_at = loop.time() + self._interval_seconds
            await self._write(list(self._read()))
            while await self._changed_before(again_at):
                self._changed.clear()
                await self._write([each for each in self._read() if self._is_news(each)])

    async def _changed_before(self, moment: float) -> bool:
        try:
            async with asyncio.timeout_at(moment):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _write(self, reports: Iterable[ProviderHealth]) -> None:
        deliveries = []
        for health in reports:
            deliveries.append(await self._publisher.publish(self._topic, health, key=health.key))
            self._told[health.key] = _gist(health)
        await asyncio.gather(*deliveries)

    def _is_news(self, health: ProviderHealth) -> bool:
        return self._told.get(health.key) != _gist(health)


def _gist(health: ProviderHealth) -> tuple[ProviderState, tuple[str, ...]]:
    """What routers must hear of at once."""
    return health.state, tuple(key.alias for key in health.keys_aside)
