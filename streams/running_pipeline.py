"""A process of the pipeline while it runs: what it consists of, and how it is doing."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted

from millrace.schemas.errors import PipelineError
from millrace.streams.budget_processor import BudgetProcessor
from millrace.streams.called_entries import CalledEntries
from millrace.streams.caller import Caller
from millrace.streams.dead_letters import utc_now
from millrace.streams.process_gauges import ProcessGauges
from millrace.streams.reload import Reload
from millrace.streams.retries import Retries
from millrace.streams.sink_consumer import SinkConsumer
from millrace.streams.status import PipelineStatus
from millrace.streams.stream_app import StreamApp
from millrace.streams.tally import Tally

_LAG_SECONDS = 1.0


@dataclass(slots=True)
class RunningPipeline:
    """A process of the pipeline while it runs."""

    tally: Tally = field(default_factory=Tally)
    callers: list[Caller] = field(default_factory=list)
    entries: CalledEntries | None = None
    retries: Retries | None = None
    budgets: BudgetProcessor | None = None
    reload: Reload | None = None
    """None where nothing says where settings come from."""
    apps: list[StreamApp] = field(default_factory=list)
    sink: SinkConsumer | None = None
    url: str = ""
    """Of its web server."""
    complete: bool = False
    """Whether all parts have been made: the web server answers before."""
    failure: PipelineError | None = None
    lag: int | None = None
    lags: dict[str, int | None] = field(default_factory=dict)
    """By part; None while it is not known."""

    def status(self) -> PipelineStatus:
        """How it is doing."""
        return PipelineStatus(
            in_flight=sum(caller.in_flight for caller in self.callers),
            completed=self.tally.completed,
            failed=self.tally.failed,
            lag=self.lag,
            cost_usd=Decimal(self.tally.cost_usd),
            rate_limited=tuple(name for each in self.callers for name in each.rate_limited),
        )

    def missing(self) -> list[str]:
        """The parts that are not ready yet; calls are made without the retries topic being read."""
        waiting = [] if self.complete else ["parts that are being made"]
        waiting += [
            f"caller of {each.provider}" for each in self.callers if not each.ready.is_set()
        ]
        waiting += [f"processor of {each.topic}" for each in self.apps if not each.ready.is_set()]
        if self.sink is not None and not self.sink.ready.is_set():
            waiting.append("sink")
        return waiting

    def problems(self) -> list[str]:
        """What has stopped of itself."""
        return [problem for app in self.apps if (problem := app.problem) is not None]

    async def watch_lag(self) -> None:
        """Keep `lag` up to date until cancelled."""
        while True:
            for caller in self.callers:
                lag = self.lags[f"calls.{caller.provider}"] = await _known(caller.lag())
                if self.entries is not None:
                    self.entries[caller.provider].health.lag = lag
            for app in self.apps:
                self.lags[app.topic] = _known_now(app.lag)
            if self.sink is not None:
                self.lags["sink"] = await _known(self.sink.lag())
            known = [lag for lag in self.lags.values() if lag is not None]
            self.lag = sum(known) if len(known) == len(self.lags) else None
            await asyncio.sleep(_LAG_SECONDS)

    def gauges(self) -> ProcessGauges:
        """How it stands, for Prometheus."""
        return ProcessGauges(
            clock=utc_now,
            lags=self.lags,
            health=lambda: self.entries.reports() if self.entries is not None else [],
            retries=lambda: self.retries,
            sink=lambda: self.sink,
            budgets=lambda: self.budgets,
        )


async def _known(lag: Coroutine[Any, Any, int]) -> int | None:
    try:
        return await lag
    except KafkaError:
        # Partitions are changing hands; the next second knows better.
        return None


def _known_now(lag: Callable[[], int]) -> int | None:
    try:
        return lag()
    except ConsumerNotStarted:
        return None
