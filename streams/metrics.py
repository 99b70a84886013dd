"""What a process counts and measures, for Prometheus; `/metrics` shows it."""

from collections.abc import Iterable
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric

from millrace.schemas.budget import BudgetAlert
from millrace.schemas.errors import ErrorCode
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.response import Response
from millrace.streams.reload import ReloadResult
from millrace.streams.series import Distribution, Totals

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_MOST_MODELS = 500
"""Models beyond these are counted together: each would be a dozen series more."""
_OTHER = "other"
_MS = 1e-3
_LATENCY_BUCKETS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 80, 160)
_DELAY_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Gauges(Protocol):
    """Whatever tells how things stand when it is asked."""

    def collect(self) -> Iterable[Metric]:
        """Tell; the same families each time, also those without samples."""
        ...


class Metrics:
    """The metrics of one process, in a registry of its own.

    Labels come from small sets: entries and models of the config, states, error codes. What is
    counted is money and calls, never prompts or keys.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._models: set[tuple[str, str]] = set()
        of_model = ("provider", "model")
        self._calls = self._counter("calls", "Calls that ended.", (*of_model, "status"))
        self._errors = self._counter("call_errors", "Calls that failed.", (*of_model, "code"))
        self._tokens = self._counter(
            "tokens",
            "Tokens of calls. input has cached and cache_write in it, output has reasoning.",
            (*of_model, "kind"),
        )
        self._cost = self._counter("cost_usd", "Cost of calls, in US dollars.", of_model)
        self._unpriced = self._counter("unpriced_calls", "Calls of unknown cost.", of_model)
        self._first_token = self._histogram(
            "time_to_first_token_seconds",
            "From sending a call to the first token of its answer.",
            of_model,
            _LATENCY_BUCKETS,
        )
        self._duration = self._histogram(
            "call_duration_seconds",
            "From sending a call to the end of its answer.",
            of_model,
            _LATENCY_BUCKETS,
        )
        self._requests = self._counter(
            "requests", "Requests that this process ended.", ("task", "status")
        )
        self._dead_letters = self._counter("dead_letters", "Records set aside.", ("code",))
        self._alerts = self._counter(
            "budget_alerts", "Shares of a budget's limit that were reached.", ("budget", "share")
        )
        self._refusals = self._counter(
            "budget_refusals", "Calls that a budget had no room for.", ("budget",)
        )
        self._reloads = self._counter("config_reloads", "New settings that were read.", ("result",))
        self._delay = Histogram(
            "millrace_event_loop_delay_seconds",
            "How late the event loop wakes what sleeps: too late, and everything waits.",
            registry=self.registry,
            buckets=_DELAY_BUCKETS,
        )

    def watch(self, gauges: Gauges) -> None:
        """Show these as well."""
        self.registry.register(gauges)

    def page(self) -> bytes:
        """Everything, in the text format that Prometheus reads."""
        return generate_latest(self.registry)

    def spent(self, event: UsageEvent) -> None:
        """Count a call that ended."""
        name = self._bounded(event.provider, event.model)
        self._calls.add((*name, event.status or "unknown"))
        if event.error_code is not None:
            self._errors.add((*name, event.error_code))
        usage = event.usage
        if usage.input_tokens:
            self._tokens.add((*name, "input"), usage.input_tokens)
        if usage.cached_tokens:
            self._tokens.add((*name, "cached"), usage.cached_tokens)
        if usage.cache_write_tokens:
            self._tokens.add((*name, "cache_write"), usage.cache_write_tokens)
        if usage.output_tokens:
            self._tokens.add((*name, "output"), usage.output_tokens)
        if usage.reasoning_tokens:
            self._tokens.add((*name, "reasoning"), usage.reasoning_tokens)
        if event.cost_usd is None:
            self._unpriced.add(name)
        else:
            self._cost.add(name, float(event.cost_usd))
        timing = event.timing
        if timing.time_to_first_token_ms is not None:
            self._first_token.observe(name, timing.time_to_first_token_ms * _MS)
        if timing.total_ms is not None:
            self._duration.observe(name, timing.total_ms * _MS)

    def ended(self, response: Response) -> None:
        """Count a terminal record."""
        self._requests.add((response.task, response.status))

    def set_aside(self, code: ErrorCode) -> None:
        """Count a dead letter."""
        self._dead_letters.add((code,))

    def alerted(self, alert: BudgetAlert) -> None:
        """Count an alert of a budget."""
        self._alerts.add((alert.budget, f"{alert.share:f}"))

    def refused(self, budget: str) -> None:
        """Count a call that a budget refused."""
        self._refusals.add((budget,))

    def reloaded(self, result: ReloadResult) -> None:
        """Count new settings."""
        self._reloads.add((result,))

    def delayed(self, seconds: float) -> None:
        """Take in how late the event loop was."""
        self._delay.observe(seconds)

    def _bounded(self, provider: str, model: str) -> tuple[str, str]:
        name = (provider, model)
        if name not in self._models:
            if len(self._models) >= _MOST_MODELS:
                return _OTHER, _OTHER
            self._models.add(name)
        return name

    def _counter(self, name: str, says: str, labels: tuple[str, ...]) -> Totals:
        return Totals(f"millrace_{name}", says, labels, registry=self.registry)

    def _histogram(
        self, name: str, says: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Distribution:
        return Distribution(
            f"millrace_{name}", says, labels, bounds=buckets, registry=self.registry
        )
