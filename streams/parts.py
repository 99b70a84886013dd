"""Makes the parts of a process from its settings; decides nothing."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

import structlog

from millrace.agents.accept_request import AcceptRequest
from millrace.agents.ask_task import AskTask
from millrace.agents.health import HealthOf
from millrace.agents.join import Join
from millrace.agents.joins.attempt import JudgeAttempt
from millrace.agents.joins.next_attempt import NextAttempt
from millrace.agents.plan_route import PlanRoute
from millrace.agents.repair import compose_repair
from millrace.agents.validate_output import ValidateOutput
from millrace.agents.validation.installed import load_validators
from millrace.prompts.library import PACKAGED, PromptLibrary
from millrace.providers.pricing import Pricing
from millrace.providers.tokens import estimate_call
from millrace.schemas.errors import PipelineError
from millrace.sinks.protocol import Sink
from millrace.streams.budget_gate import BudgetGate, EstimateCall
from millrace.streams.budget_processor import BudgetProcessor
from millrace.streams.dead_letters import SetAside, utc_now
from millrace.streams.existing_topics import ExistingTopics
from millrace.streams.following import (
    budgets_follow,
    gate_follows,
    joins_follow,
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
from millrace.streams.planning import acceptance, planner, steps_of, task_question
from millrace.streams.publisher import Publisher
from millrace.streams.reply_topics import ReplyTopics
from millrace.streams.router import Router
from millrace.streams.settings import Settings
from millrace.streams.sink_consumer import SinkConsumer
from millrace.streams.stream_app import StreamApp
from millrace.streams.tally import Tally
from millrace.streams.topics import TopicNames, largest_call

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
    live: LiveSettings
    existing: ExistingTopics
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

    def health_reader(self, view: HealthView) -> HealthReader:
        """What tells those who plan how the providers are doing."""
        return HealthReader(
            topic=self.topics.provider_health,
            view=view,
            kafka=self.settings.kafka,
            set_aside=self.set_aside,
            clock=utc_now,
        )

    async def validator(self, stack: AsyncExitStack, health: HealthOf) -> tuple[StreamApp, Chores]:
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
        judge = self._judge(ValidateOutput(policy=policy, validators=validators))

        def join(settings: Settings) -> Join:
            return Join(judge=judge, plan=planner(settings, health=health))

        processor = OutcomesProcessor(
            join=join(self.settings),
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
        self.live.follow(joins_follow(processor, join))
        window = self.settings.validator.finished_window_seconds
        return app, [clock.run(), forget_old_states(app, states, window_seconds=window)]

    def _judge(self, validate: ValidateOutput) -> JudgeAttempt:
        """What the validator role makes of attempts."""
        return JudgeAttempt(
            validate=validate,
            next_attempt=NextAttempt(compose_repair=compose_repair),
            steps=steps_of(self.settings),
            max_answers_bytes=self.settings.validator.max_answers_bytes,
            max_call_bytes=largest_call(self.settings.kafka),
        )

    async def budgets(self) -> tuple[StreamApp, BudgetProcessor]:
        """The single writer of the budgets whose partitions this process holds."""
        app = await self._stream_app(budgets_app_id(self.settings), self.topics.usage)
        processor = BudgetProcessor(
            policy=self.settings.budgets,
            publisher=self.publisher,
            topics=self.topics,
            states=app.table(BUDGETS_TABLE),
            on_alert=self.tally.metrics.alerted,
            on_refusal=self.tally.metrics.refused,
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

        steps = steps_of(self.settings)

        def ask_task(settings: Settings) -> AskTask:
            return task_question(settings, plan(settings), steps=steps)

        router = Router(
            accept=accept(settings),
            plan=plan(settings),
            ask_task=ask_task(settings),
            gate=self.budget_gate(settings),
            steps=steps,
            publisher=self.publisher,
            topics=self.topics,
            partitions=app.partitions,
            seen=seen,
            reply_topics=ReplyTopics(existing=self.existing),
            set_aside=self.set_aside,
            max_request_bytes=settings.requests.max_request_bytes,
            clock=utc_now,
        )
        app.run_processor("requests", router.process)
        self.live.follow(
            router_follows(
                router, accept=accept, plan=plan, ask_task=ask_task, gate=self.budget_gate
            )
        )
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
