"""What `/metrics` shows, and that dashboards and alerts ask for what is there."""

import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pipeline_examples import EXAMPLES
from pipeline_records import at
from prometheus_client.parser import text_string_to_metric_families

from millrace.agents.budget_account import Account, Amounts
from millrace.agents.budget_policy import Budget, BudgetPolicy
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.provider_health import ProviderHealth
from millrace.streams.metrics import Metrics
from millrace.streams.process_gauges import ProcessGauges

DEPLOY = Path(__file__).parents[3] / "deploy"
NAME = re.compile(r"\b(?:millrace|process)_[a-z_]+\b")


def example(**changes: Any) -> UsageEvent:
    """A call that ended."""
    event = EXAMPLES["usage-event"]
    assert isinstance(event, UsageEvent)
    return event.model_copy(update={"provider": "p", "model": "m", **changes})


def gauges(**parts: Any) -> ProcessGauges:
    """A process that has nothing but what is given."""
    given: dict[str, Any] = {"clock": lambda: at(0), "lags": {}, **parts}
    return ProcessGauges(**given)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A sample of the page."""
    return metrics.registry.get_sample_value(f"millrace_{name}", labels)


def families(metrics: Metrics) -> set[str]:
    """The names of all series that a page tells of, also without samples."""
    found = set()
    for family in text_string_to_metric_families(metrics.page().decode()):
        name = family.name
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        found |= {name + suffix for suffix in suffixes.get(family.type, ("",))}
    return found


def test_a_call_is_counted_with_its_tokens_cost_and_times() -> None:
    """Under its entry and model."""
    metrics = Metrics()
    metrics.spent(example(status="failed", error_code="rate_limited"))
    metrics.spent(example(status="completed", error_code=None, cost_usd=None))
    event = example()
    usage, names = event.usage, {"provider": "p", "model": "m"}

    assert sample(metrics, "calls_total", status="failed", **names) == 1
    assert sample(metrics, "call_errors_total", code="rate_limited", **names) == 1
    assert sample(metrics, "tokens_total", kind="input", **names) == 2 * usage.input_tokens
    assert sample(metrics, "cost_usd_total", **names) == pytest.approx(float(event.cost_usd or 0))
    assert sample(metrics, "unpriced_calls_total", **names) == 1
    assert sample(metrics, "time_to_first_token_seconds_count", **names) == 2


def test_models_without_end_do_not_make_series_without_end() -> None:
    """Beyond a number they are counted together."""
    metrics = Metrics()
    for number in range(600):
        metrics.spent(example(model=f"m-{number}"))

    assert sample(metrics, "calls_total", provider="p", model="m-0", status="completed") == 1
    other = sample(metrics, "calls_total", provider="other", model="other", status="completed")
    assert other == 100


def test_a_circuit_shows_one_state() -> None:
    """1 for that, 0 for the others."""
    metrics = Metrics()
    told = EXAMPLES["provider-health"]
    assert isinstance(told, ProviderHealth)
    metrics.watch(gauges(health=lambda: [told, told.model_copy(update={"model": None})]))
    names = {"provider": "openai", "model": "gpt-4.1-mini"}

    states = {
        state: sample(metrics, "circuit_state", state=state, **names)
        for state in ("closed", "half_open", "open")
    }
    assert states == {"closed": 0, "half_open": 1, "open": 0}
    assert sample(metrics, "keys_aside", provider="openai") == 1
    assert sample(metrics, "local_resource_share", resource="gpu") == 0.75


@pytest.mark.parametrize(("window", "share"), [(at(0).date(), 0.75), (date(2020, 1, 1), 0.25)])
def test_what_was_spent_in_an_earlier_window_counts_no_more(window: date, share: float) -> None:
    """What is held for calls under way does."""
    account = Account(
        window=window, spent=Amounts(Decimal(5), 50), reserved=Amounts(Decimal("2.5"), 25)
    )
    policy = BudgetPolicy((Budget(name="all", usd=Decimal(10)),))
    processor = SimpleNamespace(policy=policy, accounts=lambda: {"all": account})
    metrics = Metrics()
    metrics.watch(gauges(budgets=lambda: processor))

    assert sample(metrics, "budget_used_share", budget="all", unit="usd") == share
    assert sample(metrics, "budget_used_share", budget="all", unit="tokens") is None


def test_the_oldest_row_ages_while_it_waits() -> None:
    """From its record's time stamp."""
    sink = SimpleNamespace(stored=7, batches=2, oldest=at(-90))
    metrics = Metrics()
    metrics.watch(gauges(sink=lambda: sink, lags={"sink": 4, "requests": None}))

    assert sample(metrics, "sink_oldest_unwritten_seconds") == 90
    assert sample(metrics, "sink_rows_total") == 7
    assert sample(metrics, "lag_records", part="sink") == 4
    assert sample(metrics, "lag_records", part="requests") is None


def asked_for() -> dict[str, set[str]]:
    """The metrics that each panel and each alert names."""
    dashboard = json.loads((DEPLOY / "grafana" / "millrace.json").read_text("utf-8"))
    rules = yaml.safe_load((DEPLOY / "prometheus" / "millrace.rules.yml").read_text("utf-8"))
    asked = {
        panel["title"]: " ".join(target["expr"] for target in panel["targets"])
        for panel in dashboard["panels"]
    }
    asked |= {rule["alert"]: rule["expr"] for rule in rules["groups"][0]["rules"]}
    return {name: set(NAME.findall(expression)) for name, expression in asked.items()}


@pytest.mark.parametrize(("name", "metrics"), asked_for().items(), ids=list(asked_for()))
def test_dashboards_and_alerts_name_metrics_that_exist(name: str, metrics: set[str]) -> None:
    """A panel that shows nothing is worse than none."""
    process = Metrics()
    process.watch(gauges())

    assert metrics, name
    assert metrics <= families(process)
