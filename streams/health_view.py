"""What a router knows of the providers' health."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from millrace.agents.health import ModelHealth
from millrace.schemas.provider_health import KeyAside, ProviderHealth, Resources

_OPEN = 1.0
_HALF_OPEN = 0.5
_BUSY_FROM = 0.8
"""A machine is only a reason to go elsewhere from this load on."""
_FEW_CALLS = 5
"""So many calls make an error rate count half: a single failed one says little."""
_FRESH_SECONDS = 0.25
"""How long an answer about a model is good for, unless something is heard before."""


@dataclass(slots=True)
class _Heard:
    health: ProviderHealth
    at: float


_Name = tuple[str, str | None]


class HealthView:
    """The newest of what each process says of each provider and model, as long as it is fresh.

    Where nobody says anything, everything is usable: a pipeline that has just started, or has
    no caller yet, must route. `now` gives seconds that never go back.
    """

    def __init__(self, *, stale_seconds: float, now: Callable[[], float]) -> None:
        self._stale_seconds = stale_seconds
        self._now = now
        self._heard: dict[_Name, dict[str, _Heard]] = {}
        self._known: dict[tuple[str, str], ModelHealth | None] = {}
        self._known_until = 0.0

    def believes(self, age_seconds: float) -> bool:
        """Whether what was said so long ago still counts."""
        return age_seconds <= self._stale_seconds

    def of(self, provider: str, model: str) -> ModelHealth | None:
        """How a model is doing; None where nobody speaks of it, nor of its entry.

        Routers ask for each request, so answers are kept for a moment.
        """
        now = self._now()
        if now >= self._known_until:
            self._known.clear()
            self._known_until = now + _FRESH_SECONDS
        name = (provider, model)
        if name not in self._known:
            self._known[name] = self._summed(provider, model)
        return self._known[name]

    def _summed(self, provider: str, model: str) -> ModelHealth | None:
        reports = self._fresh(provider, model)
        if not reports and not self._fresh(provider, None):
            return None
        return ModelHealth(
            usable=self.usable(provider, model),
            penalty=self.penalty(provider, model),
            lag=self.lag(provider),
            in_flight=self.in_flight(provider),
            first_token_ms=_mean(each.first_token_ms for each in reports),
            total_ms=_mean(each.total_ms for each in reports),
        )

    def take(self, health: ProviderHealth, *, age_seconds: float = 0.0) -> None:
        """Note what was said so many seconds ago; older news of the same reporter is dropped."""
        reports = self._heard.setdefault((health.provider, health.model), {})
        before = reports.get(health.reporter)
        if before is None or before.health.reported_at <= health.reported_at:
            reports[health.reporter] = _Heard(health, self._now() - age_seconds)
            self._known.clear()

    def forget(self, provider: str, model: str | None) -> None:
        """Drop all that was said: the record was deleted."""
        self._heard.pop((provider, model), None)
        self._known.clear()

    def usable(self, provider: str, model: str) -> bool:
        """Whether a call may go there: unless every process that speaks of it says `open`."""
        return not (
            _all_open(self._fresh(provider, None)) or _all_open(self._fresh(provider, model))
        )

    def penalty(self, provider: str, model: str) -> float:
        """How much speaks against going there, from 0 (nothing) to 1 (it would be in vain).

        The worst of: open circuits and half-open ones (as half) among the processes, the rate of
        errors, and a local machine's load above 80 %. That its processors and cards are busy, or
        its cards' memory is filled, is what they are for, and counts only while calls wait.
        """
        whole = self._fresh(provider, None)
        reports = self._fresh(provider, model)
        return max(
            _circuits(whole),
            _circuits(reports),
            max(map(_errors, reports), default=0.0),
            max((_load(each) for each in whole), default=0.0),
        )

    def lag(self, provider: str) -> int | None:
        """How many calls wait on the provider's topic, over all processes; None if not known."""
        known = [each.lag for each in self._fresh(provider, None) if each.lag is not None]
        return sum(known) if known else None

    def in_flight(self, provider: str) -> int:
        """How many calls are under way there, over all processes."""
        return sum(each.in_flight for each in self._fresh(provider, None))

    def first_token_ms(self, provider: str, model: str) -> float | None:
        """How long a first token takes, on average over the processes; None if not known."""
        return _mean(each.first_token_ms for each in self._fresh(provider, model))

    def keys_aside(self, provider: str) -> tuple[KeyAside, ...]:
        """The keys that some process has set aside."""
        return tuple(
            {
                key.alias: key for each in self._fresh(provider, None) for key in each.keys_aside
            }.values()
        )

    def reports(self) -> tuple[ProviderHealth, ...]:
        """Everything fresh, by provider, model and reporter."""
        found = [each for name in list(self._heard) for each in self._fresh(*name)]
        return tuple(
            sorted(found, key=lambda each: (each.provider, each.model or "", each.reporter))
        )

    def _fresh(self, provider: str, model: str | None) -> list[ProviderHealth]:
        reports = self._heard.get((provider, model))
        if reports is None:
            return []
        horizon = self._now() - self._stale_seconds
        stale = [reporter for reporter, heard in reports.items() if heard.at < horizon]
        for reporter in stale:
            del reports[reporter]
        if not reports:
            del self._heard[provider, model]
        return [heard.health for heard in reports.values()]


def _all_open(reports: list[ProviderHealth]) -> bool:
    return bool(reports) and all(each.state == "open" for each in reports)


def _circuits(reports: Iterable[ProviderHealth]) -> float:
    """The mean over the processes, for calls are dealt out among all of them."""
    parts = [
        _OPEN if each.state == "open" else _HALF_OPEN if each.state == "half_open" else 0.0
        for each in reports
    ]
    return sum(parts) / len(parts) if parts else 0.0


def _errors(health: ProviderHealth) -> float:
    """The error rate, less where few calls stand behind it."""
    return health.error_rate * health.calls / (health.calls + _FEW_CALLS)


def _mean(values: Iterable[float | None]) -> float | None:
    measured = [each for each in values if each is not None]
    return sum(measured) / len(measured) if measured else None


def _load(health: ProviderHealth) -> float:
    """From 0 at the load where it begins to matter to 1 at a full machine."""
    resources = health.resources or Resources()
    loads = [resources.memory]
    if health.lag:
        loads += [resources.cpu, resources.gpu, resources.gpu_memory]
    fullest = max((load for load in loads if load is not None), default=0.0)
    return max(0.0, (fullest - _BUSY_FROM) / (1.0 - _BUSY_FROM))
