"""How a process of the pipeline stands at the moment it is asked, for Prometheus."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from millrace.agents.budget_account import window_start
from millrace.schemas.provider_health import ProviderHealth, ProviderState
from millrace.streams.budget_processor import BudgetProcessor
from millrace.streams.dead_letters import Clock
from millrace.streams.retries import Retries
from millrace.streams.sink_consumer import SinkConsumer

_STATES: tuple[ProviderState, ...] = ("closed", "half_open", "open")
_RESOURCES = ("cpu", "memory", "gpu", "gpu_memory")


@dataclass(slots=True, kw_only=True, eq=False)
class ProcessGauges:
    """Asks the parts of a process; those that it does not have show nothing."""

    clock: Clock
    lags: Mapping[str, int | None]
    """By part; a part that does not know now is left out."""
    health: Callable[[], list[ProviderHealth]] = field(default=list)
    retries: Callable[[], Retries | None] = lambda: None
    sink: Callable[[], SinkConsumer | None] = lambda: None
    budgets: Callable[[], BudgetProcessor | None] = lambda: None

    def collect(self) -> Iterator[Metric]:
        """Every family, also those without samples."""
        lag = _gauge("lag_records", "Records that wait for a part of this process.", "part")
        for part, waiting in self.lags.items():
            if waiting is not None:
                lag.add_metric([part], waiting)
        yield lag
        waiting_calls = _gauge("retries_waiting", "Calls in memory that wait for their time.")
        if (retries := self.retries()) is not None:
            waiting_calls.add_metric([], retries.waiting)
        yield waiting_calls
        yield from self._providers()
        yield from self._budgets()
        yield from self._sink()

    def _providers(self) -> Iterator[Metric]:
        in_flight = _gauge("calls_in_flight", "Calls under way.", "provider")
        state = _gauge(
            "circuit_state",
            "1 for the state that a circuit is in; without a model, that of the whole entry.",
            "provider",
            "model",
            "state",
        )
        aside = _gauge("keys_aside", "Keys that are not used for now.", "provider")
        busy = _gauge(
            "local_resource_share", "How busy the machine is of a local entry.", "resource"
        )
        for each in self.health():
            for known in _STATES:
                labels = [each.provider, each.model or "", known]
                state.add_metric(labels, each.state == known)
            if each.model is None:
                in_flight.add_metric([each.provider], each.in_flight)
                aside.add_metric([each.provider], len(each.keys_aside))
                if each.resources is not None and not busy.samples:
                    for name in _RESOURCES:
                        if (share := getattr(each.resources, name)) is not None:
                            busy.add_metric([name], share)
        yield from (in_flight, state, aside, busy)

    def _budgets(self) -> Iterator[Metric]:
        spent = _gauge("budget_spent", "Spent in the current window.", "budget", "unit")
        reserved = _gauge("budget_reserved", "Held for calls under way.", "budget", "unit")
        limit = _gauge("budget_limit", "The limit of a window.", "budget", "unit")
        share = _gauge("budget_used_share", "Spent and held, of the limit.", "budget", "unit")
        processor = self.budgets()
        now = self.clock()
        for name, account in (processor.accounts() if processor else {}).items():
            budget = processor.policy.named(name) if processor else None
            if budget is None:
                continue
            current = account.window == window_start(now, budget.window)
            for unit, limited, used, held in (
                ("usd", budget.usd, account.spent.usd, account.reserved.usd),
                ("tokens", budget.tokens, account.spent.tokens, account.reserved.tokens),
            ):
                if limited is None:
                    continue
                # What was spent in a window that has ended counts no more.
                used_now = used if current else 0
                labels = [name, unit]
                spent.add_metric(labels, float(used_now))
                reserved.add_metric(labels, float(held))
                limit.add_metric(labels, float(limited))
                share.add_metric(labels, _share(Decimal(used_now) + held, Decimal(limited)))
        yield from (spent, reserved, limit, share)

    def _sink(self) -> Iterator[Metric]:
        rows = CounterMetricFamily("millrace_sink_rows", "Records written to the store.")
        batches = CounterMetricFamily("millrace_sink_batches", "Batches written to the store.")
        oldest = _gauge(
            "sink_oldest_unwritten_seconds", "Age of the oldest record read and not stored."
        )
        if (sink := self.sink()) is not None:
            rows.add_metric([], sink.stored)
            batches.add_metric([], sink.batches)
            oldest.add_metric([], _age(self.clock(), sink.oldest))
        yield from (rows, batches, oldest)


def _gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"millrace_{name}", says, labels=labels)


def _age(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def _share(used: Decimal, limit: Decimal) -> float:
    if limit:
        return float(used / limit)
    return 1.0 if used else 0.0
