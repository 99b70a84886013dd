"""The provider entries that this process calls: their health, their checks, their settings."""

import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from millrace.providers.circuit import Circuits, CircuitSettings, CircuitState
from millrace.providers.entry import ProviderEntry
from millrace.providers.keys import key_values
from millrace.providers.local_resources import ResourceMonitor
from millrace.providers.protocol import ModelServer
from millrace.providers.registry import build_provider
from millrace.providers.replaceable import ReplaceableProvider
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.provider_health import ProviderHealth, Resources
from millrace.schemas.vocabulary import LOCAL_HARDWARE
from millrace.streams.dead_letters import Clock
from millrace.streams.entry_health import EntryHealth
from millrace.streams.health_checks import HealthChecks
from millrace.streams.health_publisher import HealthPublisher
from millrace.streams.health_settings import HealthSettings
from millrace.streams.live_settings import Commit
from millrace.streams.publisher import Publisher
from millrace.streams.settings import Settings

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
"""A look at the machine is good for so long."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(slots=True, kw_only=True)
class CalledEntry:
    """One of them."""

    entry: ProviderEntry
    secrets: Mapping[str, str]
    """The values of its keys' variables, to see when one was changed."""
    provider: ReplaceableProvider
    circuits: Circuits
    health: EntryHealth


class CalledEntries:
    """Keeps them, tells the health topic of them, and takes new settings for them."""

    def __init__(
        self,
        *,
        settings: HealthSettings,
        environ: Mapping[str, str],
        reporter: str,
        clock: Clock,
        publisher: Publisher,
        topic: str,
        machine: Callable[[], ResourceMonitor] = ResourceMonitor,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._reporter = reporter
        self._clock = clock
        self._monotonic = monotonic
        self._machine = machine
        self._monitor: ResourceMonitor | None = None
        self._looked: tuple[float, Resources] | None = None
        self._entries: dict[str, CalledEntry] = {}
        self.publisher = HealthPublisher(
            publisher=publisher,
            topic=topic,
            read=self.reports,
            interval_seconds=settings.interval_seconds,
        )

    def __getitem__(self, name: str) -> CalledEntry:
        return self._entries[name]

    def add(self, name: str, entry: ProviderEntry, *, circuit: CircuitSettings) -> CalledEntry:
        """Build the provider of an entry, with circuits and health.

        Raises:
            ConfigurationError: Its keys cannot be used.
        """
        provider = ReplaceableProvider(build_provider(name, entry, environ=self._environ))
        circuits = Circuits(
            settings=circuit, now=self._monotonic, on_change=partial(self._circuit_changed, name)
        )
        health = EntryHealth(
            provider=name,
            reporter=self._reporter,
            circuits=circuits,
            keys=provider,
            clock=self._clock,
            monotonic=self._monotonic,
            on_change=self.publisher.changed,
            resources=partial(self._resources, name),
        )
        called = self._entries[name] = CalledEntry(
            entry=entry,
            secrets=key_values(entry, self._environ),
            provider=provider,
            circuits=circuits,
            health=health,
        )
        return called

    def spent(self, event: UsageEvent) -> None:
        """Note the end of a call."""
        called = self._entries.get(event.provider)
        if called is not None:
            called.health.spent(event)

    def reports(self) -> list[ProviderHealth]:
        """What there is to say of all of them now."""
        return [each for called in self._entries.values() for each in called.health.reports()]

    def chores(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run until cancelled: the checks, and telling of them."""
        return [self.publisher.run(), *map(self._checks, self._entries)]

    def prepare(self, settings: Settings, environ: Mapping[str, str]) -> Commit:
        """Build anew what other settings or keys ask for; see `LiveSettings`.

        A provider whose keys are set aside is built anew as well, so that they are tried again.

        Raises:
            ConfigurationError: A key cannot be used.
        """
        fresh: dict[str, tuple[ProviderEntry, ModelServer | None]] = {}
        for name, called in self._entries.items():
            entry = settings.providers.get(name, called.entry)
            same = entry == called.entry and key_values(entry, environ) == called.secrets
            keep = same and not called.provider.keys_set_aside
            fresh[name] = (entry, None if keep else build_provider(name, entry, environ=environ))

        async def commit() -> None:
            for name, (entry, server) in fresh.items():
                called = self._entries[name]
                called.entry = entry
                called.secrets = key_values(entry, environ)
                if server is not None:
                    await called.provider.replace(server)
                    log.info("provider.replaced", provider=name)
            self.publisher.changed()

        return commit

    def _checks(self, name: str) -> Coroutine[Any, Any, None]:
        called = self._entries[name]

        def every_seconds() -> float:
            own = called.entry.check_seconds
            return self._settings.check_seconds if own is None else own

        return HealthChecks(
            check=called.provider.check,
            health=called.health,
            settings=self._settings,
            every_seconds=every_seconds,
        ).run()

    def _circuit_changed(self, name: str, model: str, state: CircuitState) -> None:
        log.warning("circuit.changed", provider=name, model=model, state=state)
        self.publisher.changed()

    def _resources(self, name: str) -> Resources | None:
        """How busy this machine is, for an entry whose server runs on it."""
        entry = self._entries[name].entry
        host = entry.base_url.host if entry.base_url is not None else None
        if entry.simulated or entry.hardware not in LOCAL_HARDWARE or host not in _LOOPBACK:
            return None
        now = self._monotonic()
        if self._looked is None or now - self._looked[0] >= _LOOK_SECONDS:
            if self._monitor is None:
                self._monitor = self._machine()
            self._looked = (now, self._monitor.look().summary())
        return self._looked[1]
