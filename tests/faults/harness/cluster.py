"""A whole pipeline, each role in a process of its own, behind proxies that the harness owns."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker_under_test import BrokerUnderTest
from harness.clock import JumpingClock
from harness.outside import ROLES, Store, Upstream, WaysIn
from harness.tcp_proxy import TcpProxy
from kafka_process import KafkaProcess, KafkaUnavailableError, free_port
from pipeline_process import RoleProcess
from pipeline_under_test import pipeline_settings

from millrace.sinks.query import ClickHouseReader
from millrace.sinks.settings import ClickHouseSettings
from millrace.streams.kafka_settings import KafkaSettings

KEY = "canary-key-7f3a91c2"
"""The providers' key. It may stand in no topic, no table, no log."""
PASSWORD = "canary-password-5c1e"  # noqa: S105 (of a store that lives as long as the harness)
PROMPT_MARK = "canary-prompt-e91b"
"""In every prompt. It may stand in topics and tables, in no log."""
_KEY_VARIABLE = "HARNESS_PROVIDER_KEY"
SESSION_SECONDS = 3.0
REQUEST_SECONDS = 5.0
DRAIN_SECONDS = 8.0
_BROKER_TRIES = 3
_MOST_ROWS = 2_000_000
"""That the store may be asked for at once: a long run makes a call's row for each of thousands."""


@dataclass(eq=False)
class Cluster:
    """Everything that a fault may be done to."""

    folder: Path
    partitions: int
    kafka: KafkaProcess
    to_broker: dict[str, TcpProxy]
    """By role."""
    to_provider: TcpProxy
    to_store: TcpProxy
    upstream: Upstream
    store: Store
    clock: JumpingClock
    prefix: str
    roles: tuple[str, ...]
    """Each is played by the process of its name; others are guests."""
    proxied: bool
    """Whether the roles go by way of the proxies; where times are measured they do not."""
    entries: Mapping[str, Any] = field(default_factory=dict)
    """Settings of every provider entry, over the harness's own."""
    workers: dict[str, RoleProcess] = field(default_factory=dict)

    @property
    def bootstrap_servers(self) -> str:
        """The way in that no fault touches but the broker's own."""
        return self.kafka.bootstrap_servers

    @property
    def app_id(self) -> str:
        """What the groups' names begin with."""
        return self.prefix.strip(".")

    def topic(self, name: str) -> str:
        """A full topic name."""
        return f"{self.prefix}{name}"

    async def add(self, role: str, *, name: str | None = None, **environ: str) -> RoleProcess:
        """Start one more process of a role."""
        worker = RoleProcess(
            self.tree(role),
            folder=self.folder,
            roles=role,
            name=name,
            environ={_KEY_VARIABLE: KEY, **self.clock.environ},
        )
        try:
            await worker.start(**environ)
        except BaseException:
            # Nobody would end it otherwise, and it would take part in what comes next.
            if worker.pid is not None:
                await worker.kill()
            raise
        self.workers[worker.name] = worker
        return worker

    async def remove(self, name: str) -> float:
        """SIGTERM a process; returns the seconds that it took to drain."""
        return await self.workers.pop(name).terminate()

    async def heal(self) -> None:
        """Take back whatever a fault does that lasts; processes that have ended stay away."""
        if not self.kafka.running:
            await asyncio.to_thread(self.kafka.start)
        self.kafka.thaw()
        for proxy in (*self.to_broker.values(), self.to_provider, self.to_store):
            await proxy.heal()
        for worker in self.workers.values():
            if worker.pid is not None:
                worker.thaw()
        await self.store.heal()
        await self.upstream.behave()
        self.clock.jump(0)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[ClickHouseReader]:
        """SQL on the store, not by way of the proxy."""
        store = ClickHouseSettings(url=self._store_url(self.store.port))
        reader = ClickHouseReader(settings=store, max_rows=_MOST_ROWS, max_memory_bytes=1 << 30)
        await reader.open()
        try:
            yield reader
        finally:
            await reader.aclose()

    def tree(self, role: str) -> dict[str, Any]:
        """The settings of a role's processes."""
        broker, provider, store = self.kafka.port, self.upstream.port, self.store.port
        if self.proxied:
            broker = self.to_broker[role].port
            provider, store = self.to_provider.port, self.to_store.port
        kafka = KafkaSettings(
            bootstrap_servers=(f"127.0.0.1:{broker}",),
            topic_prefix=self.prefix,
            partitions=self.partitions,
        )
        tree = pipeline_settings(
            BrokerUnderTest(kafka, None),
            f"http://127.0.0.1:{provider}",
            self.folder,
            clickhouse={
                "url": self._store_url(store),
                "batch_seconds": 0.3,
                "connect_timeout_seconds": 2,
                "request_timeout_seconds": 2,
            },
            caller={
                "drain_seconds": DRAIN_SECONDS,
                "commit_interval_seconds": 0.2,
                # Tries must outlast a provider that is away for a second, whatever chance draws.
                "backoff": {"max_tries": 7, "base_seconds": 0.5, "max_seconds": 2.0},
                # What one fault did to a circuit must not show in the next one.
                "circuit": {"consecutive_failures": 10_000, "minimum_calls": 10_000},
            },
            log={"level": "info", "format": "json"},
        )
        tree["kafka"]["session_timeout_seconds"] = SESSION_SECONDS
        # How soon a connection that went dead is given up.
        tree["kafka"]["request_timeout_seconds"] = REQUEST_SECONDS
        for entry in tree["providers"].values():
            entry["api_key_env"] = [_KEY_VARIABLE]
            entry["timeouts"] = {"connect": 2.0, "first_token": 4.0, "idle": 3.0}
            # Nor what it did to an entry's health: checks have tests of their own.
            entry["check_seconds"] = 0
            entry.update(self.entries)
        return tree

    def _store_url(self, port: int) -> str:
        return f"http://millrace:{PASSWORD}@127.0.0.1:{port}"


@asynccontextmanager
async def cluster(
    folder: Path,
    *,
    seed: int,
    partitions: int = 2,
    roles: tuple[str, ...] = ROLES,
    proxied: bool = True,
    entries: Mapping[str, Any] | None = None,
) -> AsyncIterator[Cluster]:
    """Everything started, one process a role; taken down in any case.

    Raises:
        KafkaUnavailableError: Kafka cannot run here.
    """
    async with AsyncExitStack() as stack:
        upstream = Upstream(port=free_port(), seed=seed)
        stack.push_async_callback(upstream.stop)
        store = Store(folder, password=PASSWORD)
        stack.push_async_callback(store.stop)
        await asyncio.gather(upstream.start(), store.start())
        kafka, to_broker = await _broker(stack, folder)
        to_provider = await stack.enter_async_context(TcpProxy(upstream_port=upstream.port))
        to_store = await stack.enter_async_context(TcpProxy(upstream_port=store.port))
        found = Cluster(
            folder=folder,
            partitions=partitions,
            kafka=kafka,
            to_broker=to_broker,
            to_provider=to_provider,
            to_store=to_store,
            upstream=upstream,
            store=store,
            clock=JumpingClock(folder),
            prefix=f"h{seed}.",
            roles=roles,
            proxied=proxied,
            entries=entries or {},
        )
        stack.push_async_callback(_end_all, found)
        await asyncio.gather(*(found.add(role) for role in roles))
        yield found


async def _broker(stack: AsyncExitStack, folder: Path) -> tuple[KafkaProcess, dict[str, TcpProxy]]:
    """A broker that runs until the stack ends, and the proxy that stands before it by role."""
    for tries_left in reversed(range(_BROKER_TRIES)):
        ways = WaysIn()
        async with AsyncExitStack() as own:
            proxies = {
                role: await own.enter_async_context(TcpProxy(upstream_port=ways.behind[role]))
                for role in ROLES
            }
            kafka = ways.kafka(folder, {role: proxy.port for role, proxy in proxies.items()})
            own.callback(kafka.stop)
            try:
                await asyncio.to_thread(kafka.start)
            except KafkaUnavailableError:
                # Other tests draw ports as well, and one may have been taken since.
                if not tries_left:
                    raise
                continue
            await stack.enter_async_context(own.pop_all())
            return kafka, proxies
    raise AssertionError("unreachable")


async def _end_all(found: Cluster) -> None:
    for worker in found.workers.values():
        if worker.pid is not None:
            worker.thaw()
            await worker.kill()
