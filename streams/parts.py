"""Makes the parts of a process from its settings; decides nothing."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import structlog

from millrace.agents.accept_request import AcceptRequest
from millrace.agents.health import HealthOf
from millrace.agents.join import Join
from millrace.agents.joins.attempt import JudgeAttempt
from millrace.agents.joins.next_attempt import NextAttempt
from millrace.agents.joins.steps import Steps
from millrace.agents.plan_route import PlanRoute
from millrace.agents.repair import compose_repair
from millrace.agents.validate_output import ValidateOutput
from millrace.agents.validation.installed import load_validators
from millrace.prompts.library import PACKAGED, STEPS, PromptLibrary
from millrace.providers.backoff import Backoff
from millrace.providers.entry import ProviderEntry
from millrace.providers.pricing import Pricing
from millrace.providers.rate_limit import RateLimiter
from millrace.providers.tokens import estimate_call, estimate_text
from millrace.schemas.call import Call
from millrace.schemas.errors import PipelineError
from millrace.schemas.ids import uuid7
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import LOCAL_HARDWARE, CostSource
from millrace.sinks.protocol import Sink
from millrace.streams.admission import Admission
from millrace.streams.budget_gate import BudgetGate, EstimateCall
from millrace.streams.budget_processor import BudgetProcessor
from millrace.streams.call_records import CallRecords, ExchangeTopics
from millrace.streams.called_entries import CalledEntries, CalledEntry
from millrace.streams.caller import Caller
from millrace.streams.cancellations import CancellationReader, Cancellations
from millrace.streams.dead_letters import SetAside, utc_now
from millrace.streams.exchange import Exchange
from millrace.streams.following import (
    budgets_follow,
    caller_follows,
    gate_follows,
    limiter_follows,
    router_follows,
)
from millrace.streams.forgetting import forget_old_states
from millrace.streams.health_reader import HealthReader
from millrace.streams.health_view import HealthView
from millrace.streams.join_clock import JoinClock
from millrace.streams.live_settings import LiveSettings
from millrace.streams.names import (
    BUDGETS_TABLE,
    JOINS_TABLE,
    SEEN_TABLE,
    budgets_app_id,
    router_app_id,
    validator_app_id,
)
from millrace.streams.outcomes import OutcomesProcessor, watch_all
from millrace.streams.overtaken import Overtaken
from millrace.streams.planning import acceptance, planner
from millrace.streams.publisher import Publisher
from millrace.streams.quotas import Quotas
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
from millrace.streams.topics import TopicNames, largest_call

log = structlog.get_logger(__name__)

_LEAST_AHEAD = 16
_MOST_AHEAD = 500
_BYTES_AHEAD = 32 * 1024 * 1024
"""How many calls a caller reads ahead, so that it has some to choose from."""

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
    live: LiveSettings
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

    def called_entries(self) -> CalledEntries:
        """What the callers of this process know of their entries."""
        return CalledEntries(
            settings=self.settings.health,
            environ=self.environ,
            reporter=uuid7(),
            clock=utc_now,
            publisher=self.publisher,
            topic=self.topics.provider_health,
        )

    def health_reader(self, view: HealthView) -> HealthReader:
        """What tells routers how the providers are doing."""
        return HealthReader(
            topic=self.topics.provider_health,
            view=view,
            kafka=self.settings.kafka,
            set_aside=self.set_aside,
            clock=utc_now,
        )

    async def callers(
        self, stack: AsyncExitStack, cancellations: Cancellations, entries: CalledEntries
    ) -> list[Caller]:
        """The caller role: one for each provider entry."""

        def spent(event: UsageEvent) -> None:
            self.tally.spent(event)
            entries.spent(event)

        records = CallRecords(
            publisher=self.publisher,
            patient=self.patient,
            topics=ExchangeTopics(
                chunks=self.topics.chunks,
                outcomes=self.topics.outcomes,
                usage=self.topics.usage,
            ),
            flush_seconds=self.settings.caller.chunk_flush_seconds,
            on_spent=spent,
        )
        made = []
        limiters = []
        for name, entry in self.settings.enabled_providers.items():
            called = entries.add(name, entry, circuit=self.settings.caller.circuit)
            stack.push_async_callback(called.provider.aclose)
            reckoning = partial(_reckoning, name)
            # Without a share until partitions are assigned: no restart makes a burst.
            limiter = RateLimiter(
                limits=entry.limits,
                now=time.monotonic,
                accounts=called.provider.accounts,
                share=0.0,
            )
            exchange = Exchange(
                provider=called.provider,
                local=entry.hardware in LOCAL_HARDWARE,
                reckoning=reckoning(self.settings),
                records=records,
                retrying=self._retrying(called, cancellations),
                quotas=Quotas(limiter=limiter),
                cancellations=cancellations,
                clock=utc_now,
                new_id=uuid7,
            )
            caller = Caller(
                provider=name,
                topic=self.topics.calls(name),
                group=f"{self.settings.app_id}-caller-{name}",
                in_flight=entry.limits.in_flight,
                kafka=self.settings.kafka,
                settings=self.settings.caller,
                exchange=exchange,
                set_aside=self.set_aside,
                admission=Admission(
                    provider=name,
                    limiter=limiter,
                    settings=self.settings.caller.lanes,
                    records=min(max(entry.limits.in_flight, _LEAST_AHEAD), _MOST_AHEAD),
                    content_bytes=_BYTES_AHEAD,
                    count_tokens=estimate_call,
                    is_over=exchange.is_over,
                    is_turned_away=exchange.is_turned_away,
                    now=time.monotonic,
                ),
                overtaken=Overtaken(publisher=self.publisher, set_aside=self.set_aside),
            )
            called.health.in_flight = partial(_in_flight, caller)
            self.live.follow(caller_follows(caller, exchange, reckoning))
            limiters.append(limiter_follows(name, called.provider, limiter))
            made.append(caller)
        self.live.follow(entries.prepare)
        for follows in limiters:
            self.live.follow(follows)
        return made

    def _retrying(self, called: CalledEntry, cancellations: Cancellations) -> Retrying:
        return Retrying(
            backoff=Backoff(settings=self.settings.caller.backoff, draw=random.random),
            circuits=called.circuits,
            available=called.health.is_available,
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

    async def validator(self, stack: AsyncExitStack) -> tuple[StreamApp, Chores]:
        """The validator role, with the joins of ensembles."""
        policy = self.settings.validation
        processes = stack.enter_context(ExitStack())
        validators = await asyncio.to_thread(
            load_validators,
            policy.named_validators,
            timeout_seconds=policy.validator_timeout_seconds,
            stack=processes,
        )
        app = await self._stream_app(validator_app_id(self.settings), self.topics.outcomes)
        states = app.table(JOINS_TABLE)
        clock = JoinClock(publisher=self.publisher, topic=self.topics.outcomes)
        processor = OutcomesProcessor(
            join=self._join(ValidateOutput(policy=policy, validators=validators)),
            gate=self.budget_gate(self.settings),
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
        self.live.follow(gate_follows(processor, self.budget_gate))
        window = self.settings.validator.finished_window_seconds
        return app, [clock.run(), forget_old_states(app, states, window_seconds=window)]

    def _join(self, validate: ValidateOutput) -> Join:
        """The decisions of the validator role."""
        return Join(
            judge=JudgeAttempt(
                validate=validate,
                next_attempt=NextAttempt(compose_repair=compose_repair),
                steps=self.steps(),
                max_answers_bytes=self.settings.validator.max_answers_bytes,
                max_call_bytes=largest_call(self.settings.kafka),
            )
        )

    def steps(self) -> Steps:
        """What the steps of strategies ask; a folder of templates may hold newer versions."""
        return Steps(library=PromptLibrary.load((STEPS, *self.settings.prompts.folders)))

    async def budgets(self) -> tuple[StreamApp, BudgetProcessor]:
        """The single writer of the budgets whose partitions this process holds."""
        app = await self._stream_app(budgets_app_id(self.settings), self.topics.usage)
        processor = BudgetProcessor(
            policy=self.settings.budgets,
            publisher=self.publisher,
            topics=self.topics,
            states=app.table(BUDGETS_TABLE),
            on_alert=self.tally.metrics.alerted,
        )

        def recovered() -> None:
            processor.restore(app.held_partitions())

        app.run_processor("budgets", processor.process, on_recovered=recovered)
        self.live.follow(budgets_follow(processor, app.held_partitions))
        return app, processor

    def budget_gate(self, settings: Settings) -> BudgetGate:
        """What sends calls to the budgets that cover them."""
        return BudgetGate(
            policy=settings.budgets,
            topics=self.topics,
            estimate=EstimateCall(
                entries=settings.providers,
                pricing=Pricing(now=utc_now),
                count_tokens=estimate_call,
            ),
        )

    async def router(self, health: HealthOf) -> tuple[StreamApp, Chores]:
        """The router role."""
        settings = self.settings
        app = await self._stream_app(router_app_id(settings), self.topics.requests)
        seen = app.table(SEEN_TABLE)
        library = PromptLibrary.load((PACKAGED, *settings.prompts.folders))

        def accept(settings: Settings) -> AcceptRequest:
            return acceptance(settings, library=library)

        def plan(settings: Settings) -> PlanRoute:
            return planner(settings, health=health)

        router = Router(
            accept=accept(settings),
            plan=plan(settings),
            gate=self.budget_gate(settings),
            steps=self.steps(),
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
        self.live.follow(router_follows(router, accept=accept, plan=plan, gate=self.budget_gate))
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


def _in_flight(caller: Caller) -> int:
    return caller.in_flight


def _reckoning(provider: str, settings: Settings) -> Reckoning:
    price = _price(Pricing(now=utc_now), settings.providers[provider])
    return Reckoning(price=price, count_tokens=_EstimatedTokens(), clock=utc_now)


class _EstimatedTokens:
    """Counts where a provider does not say."""

    def request(self, call: Call) -> int:
        return estimate_call(call)

    def text(self, text: str) -> int:
        return estimate_text(text)


def _price(pricing: Pricing, entry: ProviderEntry) -> Price:
    def price(
        model: str, usage: Usage, reported: Decimal | None
    ) -> tuple[Decimal | None, CostSource]:
        return pricing.cost(entry, model, usage, reported)

    return price
