"""What a process gathers of an entry, from calls and from checks."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from pipeline_doubles import until
from pipeline_examples import EXAMPLES
from pipeline_records import at
from structlog.testing import capture_logs

from millrace.providers.circuit import Circuits, CircuitSettings
from millrace.schemas.errors import (
    ErrorCode,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRefusedError,
)
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.provider_health import KeyAside
from millrace.schemas.usage import Timing
from millrace.streams.entry_health import EntryHealth
from millrace.streams.health_checks import HealthChecks
from millrace.streams.health_settings import HealthSettings

DOWN = ProviderUnavailableError("nobody answers")


@dataclass
class Bench:
    """An entry's health with a clock that a test sets."""

    now: float = 100.0
    usable: bool = True
    keys_set_aside: tuple[KeyAside, ...] = ()
    changes: int = 0
    health: EntryHealth = field(init=False)
    circuits: Circuits = field(init=False)

    def __post_init__(self) -> None:
        settings = CircuitSettings(consecutive_failures=1)
        self.circuits = Circuits(settings=settings, now=lambda: self.now)
        self.health = EntryHealth(
            provider="p",
            reporter="r",
            circuits=self.circuits,
            keys=self,
            clock=lambda: at(self.now),
            monotonic=lambda: self.now,
            on_change=self.changed,
        )

    def changed(self) -> None:
        self.changes += 1

    def ended(self, code: ErrorCode | None = None, **timing: Any) -> None:
        """A call of model m ends."""
        event = EXAMPLES["usage-event"]
        assert isinstance(event, UsageEvent)
        update = {
            "provider": "p",
            "model": "m",
            "status": "completed" if code is None else "failed",
            "error_code": code,
            "timing": Timing(**timing),
        }
        self.health.spent(event.model_copy(update=update))


def test_a_failed_check_opens_the_entry_and_a_good_one_closes_it() -> None:
    """Both are news at once."""
    bench = Bench()
    bench.health.check_failed(DOWN, began=bench.now)
    (opened,) = bench.health.reports()
    bench.now += 5
    bench.health.reached()
    (closed,) = bench.health.reports()

    assert (opened.state, closed.state, bench.changes) == ("open", "closed", 2)
    assert (opened.since, closed.since) == (at(100), at(105))


def test_a_call_that_was_answered_outweighs_a_check() -> None:
    """One that failed meanwhile, and one that failed before."""
    bench = Bench()
    began = bench.now
    bench.now += 1
    bench.ended()
    bench.health.check_failed(DOWN, began=began)
    assert bench.health.is_available()
    bench.health.check_failed(DOWN, began=bench.now + 1)
    assert not bench.health.is_available()

    bench.ended()

    assert bench.health.is_available()


@pytest.mark.parametrize(
    ("error", "available"),
    [
        (RateLimitedError("slow down"), True),
        (RequestRefusedError("no such path"), True),
        (RequestRefusedError("wrong key", code="authentication_failed"), False),
        (ProviderUnavailableError("late", code="provider_timeout"), False),
    ],
)
def test_a_server_that_answers_no_has_been_reached(error: ProviderError, available: bool) -> None:
    """Unless it takes none of the keys."""
    bench = Bench()
    bench.health.check_failed(error, began=bench.now)

    assert bench.health.is_available() is available


def test_with_every_key_set_aside_the_entry_is_open() -> None:
    """And names the keys."""
    aside = (KeyAside(alias="K", reason="authentication_failed", until=at(600)),)
    bench = Bench(usable=False, keys_set_aside=aside)
    (report,) = bench.health.reports()

    assert (report.state, report.keys_aside) == ("open", aside)


def test_each_model_has_a_report_of_its_own() -> None:
    """Its circuit, how many calls stand behind the rate, and the times of answered calls."""
    bench = Bench()
    for name in ("m", "n"):
        circuit = bench.circuits.of(name)
        permit = circuit.begin()
        assert permit is not None
        circuit.end(permit, "failed" if name == "n" else "answered")
    bench.now += 7
    bench.ended(time_to_first_token_ms=100.0, total_ms=900.0)
    bench.ended("provider_unavailable", total_ms=5.0)
    _, model, other = bench.health.reports()

    assert (model.key, model.state, model.calls, model.error_rate) == ("p/m", "closed", 1, 0)
    assert (model.first_token_ms, model.total_ms) == (100.0, 900.0)
    assert (other.key, other.state, other.since, other.error_rate) == ("p/n", "open", at(100), 1)


def test_a_latency_follows_and_is_forgotten() -> None:
    """After a pause the next call counts nearly alone; after ten minutes none does."""
    bench = Bench()
    bench.circuits.of("m")
    bench.ended(time_to_first_token_ms=100.0)
    bench.now += 300
    bench.ended(time_to_first_token_ms=500.0)
    first = bench.health.reports()[1].first_token_ms
    bench.now += 601

    assert first == pytest.approx(500, rel=0.01)
    assert bench.health.reports()[1].first_token_ms is None


async def test_checks_go_on_and_find_out_when_it_is_back() -> None:
    """A check that does not end counts as one that failed."""
    bench = Bench()
    answers: list[str] = ["hangs", "fails", "works"]
    asked: list[str] = []

    async def check() -> None:
        answer = answers[min(len(asked), 2)]
        asked.append(answer)
        if answer == "hangs":
            await asyncio.get_running_loop().create_future()
        if answer == "fails":
            raise DOWN

    checks = HealthChecks(
        check=check,
        health=bench.health,
        settings=HealthSettings(recheck_seconds=0.001, check_timeout_seconds=0.2),
        every_seconds=lambda: 3600,
    )
    task = asyncio.create_task(checks.run())
    await until(lambda: not bench.health.is_available())
    await until(bench.health.is_available)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert asked == ["hangs", "fails", "works"]


def test_a_key_that_is_set_aside_is_logged_once_and_again_when_it_is_back() -> None:
    """By the name of its variable, with the reason and the time."""
    bench = Bench()
    key = KeyAside(alias="KEY_A", reason="rate_limited", until=at(200.0))
    with capture_logs() as logs:
        bench.health.reports()
        bench.keys_set_aside = (key,)
        bench.health.reports()
        bench.health.reports()
        bench.keys_set_aside = ()
        bench.health.reports()

    aside, back = logs
    assert aside["event"] == "provider.key_set_aside"
    assert (aside["provider"], aside["key"], aside["reason"]) == ("p", "KEY_A", "rate_limited")
    assert aside["until"] == at(200.0).isoformat()
    assert (back["event"], back["key"]) == ("provider.key_used_again", "KEY_A")
