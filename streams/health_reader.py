"""Hearing how the providers are doing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer

from millrace.schemas.errors import InvalidEventError
from millrace.schemas.provider_health import ProviderHealth
from millrace.streams.dead_letters import Clock, RawRecord, SetAside
from millrace.streams.health_view import HealthView
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.whole_topic import WholeTopic

log = structlog.get_logger(__name__)


class HealthReader:
    """Reads the whole health topic into a view: each router must hear of each provider."""

    def __init__(
        self,
        *,
        topic: str,
        view: HealthView,
        kafka: KafkaSettings,
        set_aside: SetAside,
        clock: Clock,
        new_consumer: Callable[..., Any] = AIOKafkaConsumer,
    ) -> None:
        self._view = view
        self._set_aside = set_aside
        self._clock = clock
        self._topic = WholeTopic(topic=topic, kafka=kafka, new_consumer=new_consumer)
        self.caught_up = self._topic.caught_up
        """Set once everything written before the start has been read."""

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            BrokerError: The topic cannot be read.
        """
        await self._topic.run(self._take)

    async def _take(self, source: RawRecord, live: bool) -> None:
        if source.value is None:
            self._forget(source.key)
            return
        # What is heard live is new, whatever the clocks of two machines say.
        age = timedelta(0) if live else max(timedelta(0), self._clock() - source.timestamp)
        if not self._view.believes(age.total_seconds()):
            return
        try:
            health = ProviderHealth.decode(source.value, source.headers)
        except InvalidEventError as error:
            log.warning("health.invalid", offset=source.offset, error=error.message)
            # Every router reads the record; its own coordinates make the dead letters one.
            if live:
                await self._set_aside(source, error)
            return
        self._view.take(health, age_seconds=age.total_seconds())

    def _forget(self, key: bytes | None) -> None:
        provider, _, model = (key or b"").decode(errors="replace").partition("/")
        self._view.forget(provider, model or None)
