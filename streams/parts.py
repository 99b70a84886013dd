"""Makes the parts of a process from its settings; decides nothing."""

import random
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import structlog

from millrace.agents.accept_request import AcceptRequest
from millrace.agents.join import Join
from millrace.agents.plan_route import PlanRoute
from millrace.agents.validate_output import validate
from millrace.agents.vote import vote
from millrace.prompts.library import PACKAGED, PromptLibrary
from millrace.providers.backoff import Backoff
from millrace.providers.circuit import Circuits, CircuitState
from millrace.providers.entry import ProviderEntry
from millrace.providers.pricing import Pricing
from millrace.providers.registry import build_provider
from millrace.providers.tokens import estimate_job, estimate_messages, estimate_text
from millrace.schemas.call import Call
from millrace.schemas.errors import PipelineError
from millrace.schemas.ids import uuid7
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import CostSource
from millrace.sinks.protocol import Sink
from millrace.streams.budget_gate import BudgetGate, EstimateCall
from millrace.streams.budget_processor import BudgetProcessor
from millrace.streams.call_records import CallRecords, ExchangeTopics
from millrace.streams.caller import Caller
from millrace.streams.cancellations import CancellationReader, Cancellations
from millrace.streams.dead_letters import SetAside, utc_now
from millrace.streams.exchange import Exchange
from millrace.streams.forgetting import forget_old_states
from millrace.streams.join_clock import JoinClock
from millrace.streams.names import (
    BUDGETS_TABLE,
    JOINS_TABLE,
    SEEN_TABLE,
    budgets_app_id,
    router_app_id,
    validator_app_id,
)
from millrace.streams.offers import offers
from millrace.streams.outcomes import OutcomesProcessor, watch_all
from millrace.streams.publisher import Publisher
from millrace.streams.reckoning import Price, Reckoning
from millrace.streams.reply_topics import ReplyTopics
from millrace.streams.retries import Retries
from millrace.streams.retrying import Retrying
from millrace.streams.router import Router
from millrace.streams.settings import Settings
from millrace.streams.sink_consumer import SinkConsumer
from millrace.streams.stream_app import StreamApp
from millrace.streams.tally import Tally
from millrace.streams.topic_admin import TopicAdmin
from millrace.streams.topics import TopicNames, max_outcome_bytes

log = structlog.get_logger(__name__)

Chores = list[Coroutine[Any, Any, None]]
"""What has to run beside a processor, until cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the parts share, and how each is made."""

    settings: Settings
    environ: Mapping[str, str]
    publisher: Publisher
    patient: Publisher
    """Gathers larger batches, for what nobody waits for."""
    topics: TopicNames
    set_aside: SetAside
    tally: Tally
    admin: TopicAdmin
    on_failure: Callable[[PipelineError], None]

    def sink_consumer(self, sink: Sink) -> SinkConsumer:
        """The sink role."""
        clickhouse = self.settings.clickhouse
        return SinkConsumer(
            sink=sink,
            kafka=self.settings.kafka,
            topics=self.topics,
            group=f"{self.settings.app_id}-sink",
            batch_rows=clickhouse.batch_rows,
            batch_seconds=clickhouse.batch_seconds,
            set_aside=self.set_aside,
        )

    def cancellation_reader(
        self, cancellations: Cancellations, window: timedelta
    ) -> CancellationReader:
        """What tells callers which work to stop."""
        return CancellationReader(
            settings=self.settings.kafka,
            topic=self.topics.cancellations,
            cancellations=cancellations,
            set_aside=self.set_aside,
            window=window,
        )

    async def callers(self, stack: AsyncExitStack, cancellations: Cancellations) -> list[Caller]:
        """The caller role: one for each provider entry."""
        pricing = Pricing(now=utc_now)
        records = CallRecords(
            publisher=self.publisher,
            patient=self.patient,
            topics=ExchangeTopics(
                chunks=self.topics.chunks,
                outcomes=self.topics.outcomes,
                usage=self.topics.usage,
            ),
            flush_seconds=self.settings.caller.chunk_flush_seconds,
            on_spent=self.tally.spent,
        )
        made = []
        for name, entry in self.settings.enabled_providers.items():
            provider = build_provider(name, entry, environ=self.environ)
            stack.push_async_callback(provider.aclose)
            exchange = Exchange(
                provider=provider,
                reckoning=Reckoning(
                    price=_price(pricing, entry), count_tokens=_EstimatedTokens(), clock=utc_now
                ),
                records=records,
                retrying=self._retrying(name, cancellations),
                cancellations=cancellations,
                clock=utc_now,
                new_id=uuid7,
            )
            made.append(
                Caller(
                    provider=name,
                    topic=self.topics.calls(name),
                    group=f"{self.settings.app_id}-caller-{name}",
                    in_flight=entry.limits.in_flight,
                    kafka=self.settings.kafka,
                    settings=self.settings.caller,
                    exchange=exchange,
                    set_aside=self.set_aside,
                )
            )
        return made

    def _retrying(self, provider: str, cancellations: Cancellations) -> Retrying:
        caller = self.settings.caller
        return Retrying(
            backoff=Backoff(settings=caller.backoff, draw=random.random),
            circuits=Circuits(
                settings=caller.circuit,
                now=time.monotonic,
                on_change=partial(_tell_of_circuit, provider),
            ),
            cancellations=cancellations,
            publisher=self.publisher,
            topic=self.topics.retries,
            clock=utc_now,
        )

    def retries(self, cancellations: Cancellations) -> Retries:
        """What sends calls on once their time has come."""
        return Retries(
            topic=self.topics.retries,
            group=f"{self.settings.app_id}-retries",
            calls_topic=self.topics.calls,
            kafka=self.settings.kafka,
            settings=self.settings.retries,
            publisher=self.publisher,
            set_aside=self.set_aside,
            cancellations=cancellations,
            clock=utc_now,
        )

    async def validator(self) -> tuple[StreamApp, Chores]:
        """The validator role, with the joins of ensembles."""
        app = await self._stream_app(validator_app_id(self.settings), self.topics.outcomes)
        states = app.table(JOINS_TABLE)
        clock = JoinClock(publisher=self.publisher, topic=self.topics.outcomes)
        processor = OutcomesProcessor(
            join=Join(validate=validate, vote=vote),
            gate=self.budget_gate(),
            publisher=self.publisher,
            topics=self.topics,
            states=states,
            clock=clock,
            set_aside=self.set_aside,
            tally=self.tally,
        )

        def recovered() -> None:
            watch_all(states, clock, app.held_partitions())

        app.run_processor("outcomes", processor.process, on_recovered=recovered)
        window = self.settings.validator.finished_window_seconds
        return app, [clock.run(), forget_old_states(app, states, window_seconds=window)]

    async def budgets(self) -> StreamApp:
        """The single writer of the budgets whose partitions this process holds."""
        app = await self._stream_app(budgets_app_id(self.settings), self.topics.usage)
        processor = BudgetProcessor(
            policy=self.settings.budgets,
            publisher=self.publisher,
            topics=self.topics,
            states=app.table(BUDGETS_TABLE),
        )

        def recovered() -> None:
            processor.restore(app.held_partitions())

        app.run_processor("budgets", processor.process, on_recovered=recovered)
        return app

    def budget_gate(self) -> BudgetGate:
        """What sends calls to the budgets that cover them."""
        return BudgetGate(
            policy=self.settings.budgets,
            topics=self.topics,
            estimate=EstimateCall(
                entries=self.settings.enabled_providers,
                pricing=Pricing(now=utc_now),
                count_tokens=estimate_job,
            ),
        )

    async def router(self) -> tuple[StreamApp, Chores]:
        """The router role."""
        settings = self.settings
        app = await self._stream_app(router_app_id(settings), self.topics.requests)
        seen = app.table(SEEN_TABLE)
        library = PromptLibrary.load((PACKAGED, *settings.prompts.folders))
        router = Router(
            accept=AcceptRequest(
                library=library,
                policy=settings.requests,
                own_topics=(f"{self.topics.prefix}*", f"{settings.app_id}-*-changelog"),
            ),
            plan=PlanRoute(
                offers=offers(settings.enabled_providers, Pricing(now=utc_now)),
                policy=settings.routes,
                count_tokens=estimate_messages,
                max_outcome_bytes=max_outcome_bytes(settings.kafka),
            ),
            gate=self.budget_gate(),
            publisher=self.publisher,
            topics=self.topics,
            partitions=app.partitions,
            seen=seen,
            reply_topics=ReplyTopics(admin=self.admin),
            set_aside=self.set_aside,
            max_request_bytes=settings.requests.max_request_bytes,
            clock=utc_now,
        )
        app.run_processor("requests", router.process)
        window = settings.router.dedup_window_seconds
        return app, [forget_old_states(app, seen, window_seconds=window)]

    async def _stream_app(self, app_id: str, topic: str) -> StreamApp:
        return StreamApp(
            app_id=app_id,
            topic=topic,
            partitions=await self.publisher.partitions(topic),
            kafka=self.settings.kafka,
            table_publisher=self.patient,
            set_aside=self.set_aside,
            on_failure=self.on_failure,
            folder=self.settings.data_folder,
        )


def _tell_of_circuit(provider: str, model: str, state: CircuitState) -> None:
    log.warning("circuit.changed", provider=provider, model=model, state=state)


class _EstimatedTokens:
    """Counts where a provider does not say."""

    def request(self, call: Call) -> int:
        return estimate_job(call.job)

    def text(self, text: str) -> int:
        return estimate_text(text)


def _price(pricing: Pricing, entry: ProviderEntry) -> Price:
    def price(
        model: str, usage: Usage, reported: Decimal | None
    ) -> tuple[Decimal | None, CostSource]:
        return pricing.cost(entry, model, usage, reported)

    return price
