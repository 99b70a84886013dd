"""What this process knows of one provider entry and of its models."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from millrace.providers.circuit import Circuits
from millrace.providers.latency import LatencyAverage
from millrace.schemas.errors import ErrorCode, ProviderError
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.provider_health import (
    KeyAside,
    ProviderHealth,
    ProviderState,
    Resources,
)
from millrace.streams.dead_letters import Clock

log = structlog.get_logger(__name__)

_OF_KEYS: frozenset[ErrorCode] = frozenset({"authentication_failed", "rate_limited"})
"""Failures after which a key may have been set aside."""
_OUT_OF_REACH: frozenset[ErrorCode] = frozenset(
    {
        "provider_unavailable",
        "provider_timeout",
        "stream_truncated",
        "reply_invalid",
        "authentication_failed",
    }
)
"""A check that fails otherwise has reached a server that works: it was only not served."""


class Keys(Protocol):
    """What a provider tells of its keys."""

    @property
    def keys_set_aside(self) -> tuple[KeyAside, ...]:
        """The keys that are not used for now."""
        ...

    @property
    def usable(self) -> bool:
        """False while no call can be made, as every key is set aside."""
        ...


@dataclass(slots=True)
class _Latency:
    first_token_ms: LatencyAverage
    total_ms: LatencyAverage


class EntryHealth:
    """Gathers what calls and checks tell of an entry, and reports it.

    The entry as a whole is `open` while its last check could not reach it and no call has been
    answered since, and while all its keys are set aside. `on_change` is called when a report
    may have news. `monotonic` gives seconds that never go back.
    """

    def __init__(
        self,
        *,
        provider: str,
        reporter: str,
        circuits: Circuits,
        keys: Keys,
        clock: Clock,
        monotonic: Callable[[], float],
        on_change: Callable[[], None],
        resources: Callable[[], Resources | None] = lambda: None,
    ) -> None:
        self.provider = provider
        self._reporter = reporter
        self._circuits = circuits
        self._keys = keys
        self._clock = clock
        self._monotonic = monotonic
        self._on_change = on_change
        self._resources = resources
        self._latencies: dict[str, _Latency] = {}
        self._answered_at = float("-inf")
        self._unreachable = False
        self._state: ProviderState = "closed"
        self._since = clock()
        self._aside: set[str] = set()
        self.in_flight: Callable[[], int] = lambda: 0
        """Calls under way; set once there is a caller."""
        self.lag: int | None = None
        """Calls that wait on the topic for this process; None while not known."""

    def is_available(self) -> bool:
        """Whether the entry can be called at all, as far as is known."""
        return not self._unreachable and self._keys.usable

    def spent(self, event: UsageEvent) -> None:
        """Note the end of a call: how long it took, and that the entry answers."""
        timing = event.timing
        if event.status == "completed":
            self._answered_at = self._monotonic()
            self._measured(event.model, timing.time_to_first_token_ms, timing.total_ms)
            if self._unreachable:
                self.reached()
        elif event.error_code in _OF_KEYS:
            self._on_change()

    def reached(self) -> None:
        """Note that the entry works."""
        if self._unreachable:
            self._unreachable = False
            log.info("provider.reachable", provider=self.provider)
            self._on_change()

    def moment(self) -> float:
        """Now, on the clock that `check_failed` goes by."""
        return self._monotonic()

    def check_failed(self, error: ProviderError, *, began: float) -> None:
        """Note that a check failed that began at this moment.

        What calls tell counts for more: one that was answered meanwhile outweighs it.
        """
        if error.code not in _OUT_OF_REACH:
            self.reached()
        elif self._answered_at < began and not self._unreachable:
            self._unreachable = True
            log.warning(
                "provider.unreachable",
                provider=self.provider,
                code=error.code,
                error=error.message,
            )
            self._on_change()

    def reports(self) -> list[ProviderHealth]:
        """A report of the entry, and of each model that was called."""
        now = self._clock()
        aside = self._keys.keys_set_aside
        self._log_keys(aside)
        state: ProviderState = "closed" if self.is_available() else "open"
        if state != self._state:
            self._state, self._since = state, now
        whole = ProviderHealth(
            provider=self.provider,
            reporter=self._reporter,
            state=state,
            since=self._since,
            in_flight=self.in_flight(),
            lag=self.lag,
            resources=self._resources(),
            keys_aside=aside,
            reported_at=now,
        )
        return [whole, *(self._of_model(model, whole) for model, _ in self._circuits.items())]

    def _log_keys(self, aside: tuple[KeyAside, ...]) -> None:
        """Say which keys are used no more, and which are again."""
        known, self._aside = self._aside, {key.alias for key in aside}
        for key in aside:
            if key.alias not in known:
                log.warning(
                    "provider.key_set_aside",
                    provider=self.provider,
                    key=key.alias,
                    reason=key.reason,
                    until=key.until.isoformat(),
                )
        for alias in sorted(known - self._aside):
            log.info("provider.key_used_again", provider=self.provider, key=alias)

    def _of_model(self, model: str, whole: ProviderHealth) -> ProviderHealth:
        circuit = self._circuits.of(model)
        state = circuit.state
        calls, failures = circuit.counts
        latency = self._latencies.get(model)
        in_state = timedelta(seconds=max(0.0, self._monotonic() - circuit.since))
        return ProviderHealth(
            provider=self.provider,
            model=model,
            reporter=self._reporter,
            state=state,
            since=whole.reported_at - in_state,
            error_rate=failures / calls if calls else 0.0,
            calls=calls,
            first_token_ms=latency and latency.first_token_ms.value,
            total_ms=latency and latency.total_ms.value,
            reported_at=whole.reported_at,
        )

    def _measured(self, model: str, first_token_ms: float | None, total_ms: float | None) -> None:
        latency = self._latencies.get(model)
        if latency is None:
            now = self._monotonic
            latency = _Latency(LatencyAverage(now=now), LatencyAverage(now=now))
            self._latencies[model] = latency
        if first_token_ms is not None:
            latency.first_token_ms.add(first_token_ms)
        if total_ms is not None:
            latency.total_ms.add(total_ms)
