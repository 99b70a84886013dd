"""Wires the roles of one process together, runs them, and takes them down without losing work."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog

from millrace.agents.health import HealthOf
from millrace.schemas.errors import ConfigurationError, PipelineError
from millrace.sinks.clickhouse import ClickHouseSink
from millrace.sinks.query import ClickHouseReader
from millrace.streams.caller_parts import CallerParts
from millrace.streams.cancellations import Cancellations
from millrace.streams.config_source import ConfigSource
from millrace.streams.dead_letters import DeadLetters
from millrace.streams.discovery import pull_missing_models, with_listed_models
from millrace.streams.embedded.broker import EmbeddedBroker
from millrace.streams.embedded.topic_admin import EmbeddedTopicAdmin
from millrace.streams.engine_owner import announce_owner
from millrace.streams.existing_topics import ExistingTopics
from millrace.streams.header_names import read_any_header_name
from millrace.streams.health_view import HealthView
from millrace.streams.kafka_connection import reconnect_after_resets
from millrace.streams.kafka_topic_admin import KafkaTopicAdmin
from millrace.streams.live_settings import LiveSettings
from millrace.streams.loop_delay import measure_delay
from millrace.streams.member_commits import let_only_members_commit
from millrace.streams.names import changelogs
from millrace.streams.parts import Parts
from millrace.streams.publisher import Publisher
from millrace.streams.reload import Reload
from millrace.streams.roles import Role
from millrace.streams.running_pipeline import RunningPipeline
from millrace.streams.settings import Settings
from millrace.streams.stream_app import StreamApp
from millrace.streams.topic_admin import TopicAdmin, create_missing, require_equal_partitions
from millrace.streams.topics import TopicNames, topic_specs
from millrace.streams.warm_up import warm_up
from millrace.streams.web import Probes, WebServer

log = structlog.get_logger(__name__)

WATCH_SECONDS = 1.0
WIND_DOWN_SECONDS = 20.0
"""For committing and closing, beyond the time that calls in flight may take."""


async def run_pipeline(
    settings: Settings,
    *,
    roles: frozenset[Role],
    environ: Mapping[str, str],
    stop: asyncio.Event,
    embedded: EmbeddedBroker | None = None,
    on_ready: Callable[[RunningPipeline], None] | None = None,
    source: ConfigSource | None = None,
    reload: asyncio.Event | None = None,
) -> None:
    """Run these roles until `stop` is set, then drain, commit and return.

    With the `source` of the settings given, they are taken anew when it changes, and when `reload`
    is set.

    Raises:
        PipelineError: It cannot start, or cannot go on; the message says why. What was not
            finished is uncommitted, and is done after a restart.
    """
    reconnect_after_resets()
    let_only_members_commit()
    read_any_header_name()
    # As the files give them: an embedded broker's address, say, is filled in by whoever starts it.
    loaded = source.load()[0] if source is not None else settings
    if embedded is not None:
        kafka = settings.kafka.on_embedded(embedded.bootstrap_servers)
        settings = settings.model_copy(update={"kafka": kafka})
    if Role.CALLER in roles:
        await pull_missing_models(settings, environ)
    settings = await with_listed_models(settings, environ)
    _require_something_to_do(settings, roles)
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(_topic_admin(settings, embedded))
        await _make_topics(settings, admin)
        live = LiveSettings(running=settings, loaded=loaded)
        process = _Process(settings=settings, roles=roles, environ=environ, admin=admin, live=live)
        if source is not None:
            process.follow(source, reload or asyncio.Event())
        await process.run(stack, stop=stop, on_ready=on_ready)


def _require_something_to_do(settings: Settings, roles: frozenset[Role]) -> None:
    if roles & {Role.ROUTER, Role.CALLER} and not settings.enabled_providers:
        raise ConfigurationError(
            "no provider is configured: set OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, "
            "OPENROUTER_API_KEY or OLLAMA_BASE_URL, or add [providers.<name>] to the config file"
        )


@asynccontextmanager
async def _topic_admin(
    settings: Settings, embedded: EmbeddedBroker | None
) -> AsyncIterator[TopicAdmin]:
    if embedded is not None:
        yield EmbeddedTopicAdmin(broker=embedded)
        return
    async with KafkaTopicAdmin(client_kwargs=settings.kafka.client_kwargs()) as admin:
        yield admin


async def _make_topics(settings: Settings, admin: TopicAdmin) -> None:
    specs = topic_specs(
        settings.kafka, providers=settings.enabled_providers, changelogs=changelogs(settings)
    )
    created = await create_missing(admin, specs)
    if created:
        log.info("topics.created", topics=sorted(created))
    await require_equal_partitions(admin, specs)


class _Process:
    """One process: its parts, their order of coming and going, and its first failure."""

    def __init__(
        self,
        *,
        settings: Settings,
        roles: frozenset[Role],
        environ: Mapping[str, str],
        admin: TopicAdmin,
        live: LiveSettings,
    ) -> None:
        self._settings = settings
        self._roles = roles
        self._environ = environ
        self._admin = admin
        self._running = RunningPipeline()
        self._failed = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []
        self._live = live

    def follow(self, source: ConfigSource, reload: asyncio.Event) -> None:
        """Take new settings from there while it runs."""
        self._running.reload = Reload(
            source=source,
            live=self._live,
            asked=reload,
            poll_seconds=self._settings.reload.poll_seconds,
            on_done=self._running.tally.metrics.reloaded,
        )

    async def run(
        self,
        stack: AsyncExitStack,
        *,
        stop: asyncio.Event,
        on_ready: Callable[[RunningPipeline], None] | None,
    ) -> None:
        settings, running = self._settings, self._running
        existing = ExistingTopics(admin=self._admin)
        publisher = await stack.enter_async_context(
            Publisher(settings=settings.kafka, on_failure=self._fail, existing=existing)
        )
        patient = await stack.enter_async_context(
            Publisher(
                settings=settings.kafka,
                linger_ms=settings.kafka.patient_linger_ms,
                on_failure=self._fail,
                existing=existing,
            )
        )
        parts = Parts(
            settings=settings,
            environ=self._environ,
            publisher=publisher,
            patient=patient,
            topics=TopicNames(settings.kafka.topic_prefix),
            set_aside=DeadLetters(
                publisher=publisher,
                topic=TopicNames(settings.kafka.topic_prefix).dead_letters,
                on_letter=running.tally.metrics.set_aside,
            ),
            tally=running.tally,
            live=self._live,
            existing=existing,
            on_failure=self._fail,
        )
        sink, reader = await self._open_store(stack)
        # Nothing is begun before the port is ours: another process may have it.
        web = await stack.enter_async_context(
            WebServer(settings=settings.web, probes=self._probes(reader))
        )
        running.url = web.url
        if reader is not None:
            stack.callback(announce_owner(settings.clickhouse, url=web.url, token=web.token))
        try:
            if sink is not None:
                self._start_sink(parts, sink)
            calling = await self._start_callers(stack, parts)
            apps = await self._start_apps(stack, parts)
            running.complete = True
            watching = self._supervise("lag", running.watch_lag())
            self._supervise("watch", self._watch_apps())
            self._supervise("loop delay", measure_delay(running.tally.metrics.delayed))
            if running.reload is not None:
                self._supervise("reload", running.reload.run())
            await self._wait_until_ready(stop)
            if on_ready is not None and not self._failed.is_set() and not stop.is_set():
                on_ready(running)
            await _first(stop, self._failed)
            watching.cancel()
            await self._wind_down(apps, calling)
        finally:
            await _cancel(self._background)
        if running.failure is not None:
            raise running.failure

    async def _open_store(
        self, stack: AsyncExitStack
    ) -> tuple[ClickHouseSink | None, ClickHouseReader | None]:
        """Where the sink writes; the reader is None unless the engine is in this process."""
        if Role.SINK not in self._roles:
            return None, None
        sink = ClickHouseSink(settings=self._settings.clickhouse)
        stack.push_async_callback(sink.aclose)
        reader = None
        if self._settings.clickhouse.embedded:
            await sink.open()
            reader = ClickHouseReader(settings=self._settings.clickhouse)
            stack.push_async_callback(reader.aclose)
            await reader.open()
        return sink, reader

    def _start_sink(self, parts: Parts, sink: ClickHouseSink) -> None:
        consumer = parts.sink_consumer(sink)
        self._running.sink = consumer
        self._sinking = self._supervise("sink", consumer.run())

    async def _start_callers(self, stack: AsyncExitStack, parts: Parts) -> list[asyncio.Task[None]]:
        if Role.CALLER not in self._roles:
            return []
        window = timedelta(seconds=self._settings.caller.cancellation_window_seconds)
        cancellations = Cancellations(window=window)
        calling = CallerParts(shared=parts)
        listener = calling.cancellation_reader(cancellations, window)
        listening = self._supervise("cancellations", listener.run())
        # A call that was cancelled while nobody listened must not be made.
        await _first(listener.caught_up, self._failed, listening)
        entries = calling.called_entries()
        callers = calling.callers(stack, cancellations, entries)
        self._running.callers = callers
        self._running.entries = entries
        for chore in entries.chores():
            self._supervise("provider health", chore)
        for name, entry in self._settings.enabled_providers.items():
            if entry.warm_up:
                self._supervise(f"warm-up of {name}", warm_up(name, entry, self._environ))
        retries = calling.retries(cancellations)
        self._running.retries = retries
        return [
            self._supervise("retries", retries.run()),
            *(self._supervise(f"caller {each.provider}", each.run()) for each in callers),
        ]

    async def _start_apps(self, stack: AsyncExitStack, parts: Parts) -> list[StreamApp]:
        """The validator first, so that nothing is asked that nobody could end."""
        apps: list[StreamApp] = []
        if not self._roles & {Role.ROUTER, Role.VALIDATOR}:
            return apps
        health = await self._hear_of_health(parts)
        if Role.VALIDATOR in self._roles:
            app, chores = await parts.validator(stack, health)
            apps.append(app)
            stack.push_async_callback(app.abandon)
            await app.start()
            for chore in chores:
                self._supervise("validator", chore)
            if self._settings.budgets.root:
                app, self._running.budgets = await parts.budgets()
                apps.append(app)
                stack.push_async_callback(app.abandon)
                await app.start()
        if Role.ROUTER in self._roles:
            app, chores = await parts.router(health)
            apps.append(app)
            stack.push_async_callback(app.abandon)
            await app.start()
            for chore in chores:
                self._supervise("router", chore)
        self._running.apps = apps
        return apps

    async def _hear_of_health(self, parts: Parts) -> HealthOf:
        """Follow how the providers are doing.

        Routers plan by it, and so do validators where a request's task had to be asked for.
        """
        stale_seconds = self._settings.health.stale_seconds
        view = HealthView(stale_seconds=stale_seconds, now=time.monotonic)
        hearing = parts.health_reader(view)
        reading = self._supervise("provider health", hearing.run())
        # What is known to be out of reach must not be asked first.
        await _first(hearing.caught_up, self._failed, reading)
        return view.of

    async def _wait_until_ready(self, stop: asyncio.Event) -> None:
        while self._running.missing() and not stop.is_set() and not self._failed.is_set():  # noqa: ASYNC110 (many parts)
            await asyncio.sleep(0.05)

    async def _wind_down(self, apps: list[StreamApp], calling: list[asyncio.Task[None]]) -> None:
        """Stop in the order of the flow: no new work, calls end, their outcomes are decided."""
        limit = self._settings.caller.drain_seconds + WIND_DOWN_SECONDS
        try:
            async with asyncio.timeout(limit if not self._failed.is_set() else WIND_DOWN_SECONDS):
                if self._running.retries is not None:
                    self._running.retries.stop()
                for caller in self._running.callers:
                    caller.stop()
                for app in reversed(apps):
                    if app.topic.endswith("requests"):
                        await self._stop(app)
                if calling:
                    await asyncio.wait(calling)
                for app in apps:
                    await self._stop(app)
                if self._running.sink is not None:
                    self._running.sink.stop()
                    await asyncio.wait((self._sinking,))
        except TimeoutError:
            log.warning("stop.incomplete", after_seconds=limit)

    async def _stop(self, app: StreamApp) -> None:
        if self._failed.is_set():
            # What it waits for may never come.
            await app.abandon()
        else:
            await app.stop()

    async def _watch_apps(self) -> None:
        while not self._failed.is_set():
            for problem in self._running.problems():
                self._fail(PipelineError(problem))
            await asyncio.sleep(WATCH_SECONDS)

    def _supervise(self, name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name=name)
        self._background.append(task)

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, PipelineError):
                self._fail(error)
            elif error is not None:
                log.error("part.fault", part=name, exc_info=error)
                self._fail(PipelineError(f"{name} stopped by a fault in Millrace: {error!r}"))

        task.add_done_callback(ended)
        return task

    def _fail(self, error: PipelineError) -> None:
        if self._running.failure is None:
            self._running.failure = error
            log.error("pipeline.failed", code=error.code, error=error.message)
        self._failed.set()

    def _probes(self, reader: ClickHouseReader | None) -> Probes:
        running = self._running
        running.tally.metrics.watch(running.gauges())

        def healthy() -> str | None:
            return running.failure.message if running.failure else None

        return Probes(
            healthy=healthy,
            ready=running.missing,
            status=running.status,
            metrics=running.tally.metrics.page,
            query=None if reader is None else reader.query,
        )


async def _first(*either: "asyncio.Event | asyncio.Task[None]") -> None:
    """Wait until one of these has happened."""
    waits = [
        asyncio.create_task(each.wait()) if isinstance(each, asyncio.Event) else each
        for each in either
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait, each in zip(waits, either, strict=True):
            if wait is not each:
                wait.cancel()


async def _cancel(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=WIND_DOWN_SECONDS)
