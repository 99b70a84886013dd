"""Looks at a running pipeline from outside: progress of every group, memory of every process."""

import asyncio
import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from harness.cluster import Cluster
from harness.load import PROVIDERS
from observing import Observing, changing_until

_EVERY_SECONDS = 1.0
QUIET_SECONDS = 60.0
"""So long no group commits anything: then what is waited for does not come."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A committed offset, and how far the topics reached when it had been seen."""

    group: str
    partition: TopicPartition
    offset: int
    ends: Mapping[TopicPartition, int]
    """What made the commit right lies below these."""


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition that had lag and made no progress."""

    group: str
    partition: TopicPartition
    seconds: float
    """Counted in looks, a second apart: a machine that is too busy to look is too busy to work."""


class Watch:
    """Looks once a second until the block ends."""

    def __init__(self, *, cluster: Cluster) -> None:
        self._cluster = cluster
        self.admin: Any = None
        """A client that goes by way of no proxy."""
        self._consumer: Any = None
        self._looking = Observing(self._look)
        self._still: dict[tuple[str, TopicPartition], tuple[int, int]] = {}
        """What each group has committed, and how many looks ago that was seen to change."""
        self._excused = 0
        self.commits: list[Commit] = []
        """Each change of a committed offset."""
        self.longest_stall: Stall | None = None
        self.peak_rss_mb: dict[str, float] = defaultdict(float)

    async def __aenter__(self) -> Self:
        servers = self._cluster.bootstrap_servers
        self.admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await self.admin.start()
        self._consumer = AIOKafkaConsumer(bootstrap_servers=servers, metadata_max_age_ms=2_000)
        await self._consumer.start()
        await self._looking.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._looking.__aexit__(kind, error, trace)
        await self.admin.close()
        await self._consumer.stop()

    @contextmanager
    def excuse(self) -> Iterator[None]:
        """While this holds, nobody is expected to make progress; the time counts from its end."""
        self._excused += 1
        try:
            yield
        finally:
            self._excused -= 1
            self._still.clear()

    def groups(self) -> dict[str, list[str]]:
        """Each consumer group, with the topics that it reads."""
        app, topic = self._cluster.app_id, self._cluster.topic
        return {
            f"{app}-router": [topic("requests")],
            f"{app}-validator": [topic("outcomes")],
            f"{app}-retries": [topic("retries")],
            f"{app}-sink": [topic("usage"), topic("responses"), topic("requests")],
            **{f"{app}-caller-{name}": [topic(f"calls.{name}")] for name in PROVIDERS},
        }

    async def commits_of_callers(self) -> dict[tuple[str, int], tuple[int, str]]:
        """What the callers' groups have committed, with metadata, by topic (no prefix), partition.

        Waits for a broker that is away.
        """
        prefix = self._cluster.prefix
        found = {}
        for group in self.groups():
            if "-caller-" in group:
                for at, commit in (await self.admin.list_consumer_group_offsets(group)).items():
                    place = (at.topic.removeprefix(prefix), at.partition)
                    found[place] = (max(0, commit.offset), commit.metadata or "")
        return found

    def groups_of(self, role: str) -> list[str]:
        """The groups that the processes of a role are members of."""
        return [group for group in self.groups() if self._role(group) == role]

    async def lag(self) -> dict[str, int]:
        """How far each group's committed offsets are behind; groups without lag are left out."""
        found: dict[str, int] = defaultdict(int)
        for group, partition, committed, end in await self._offsets():
            if end > committed:
                found[f"{group} on {partition.topic}-{partition.partition}"] += end - committed
        return found

    async def until_no_lag(self, *, seconds: float = QUIET_SECONDS) -> None:
        """Wait until every group has committed all there is, as long as any lag changes.

        Raises:
            AssertionError: Some have not, and for so long nothing has changed.
        """
        await changing_until(self.lag, operator.not_, "every group's lag to go", seconds=seconds)

    async def _look(self) -> bool:
        known = len(self.commits)
        # The broker may be the one that is away.
        with suppress(KafkaError, TimeoutError, OSError):
            await self._sample()
        self._weigh()
        await asyncio.sleep(_EVERY_SECONDS)
        return len(self.commits) > known

    async def _sample(self) -> None:
        offsets = await self._offsets()
        ends = {partition: end for _, partition, _, end in offsets}
        for group, partition, committed, end in offsets:
            key = (group, partition)
            before, looks = self._still.get(key, (-1, 0))
            if committed != before:
                self.commits.append(Commit(group, partition, committed, ends))
            if committed != before or committed >= end or self._excused or not self._served(group):
                self._still[key] = (committed, 0)
                continue
            self._still[key] = (committed, looks + 1)
            seconds = (looks + 1) * _EVERY_SECONDS
            if self.longest_stall is None or seconds > self.longest_stall.seconds:
                self.longest_stall = Stall(group, partition, seconds)

    def _role(self, group: str) -> str:
        name = group.removeprefix(f"{self._cluster.app_id}-").split("-")[0]
        return "caller" if name == "retries" else name

    def _served(self, group: str) -> bool:
        """Whether a process that is ready reads it: one that starts is not held up."""
        role = self._role(group)
        return any(
            worker.ready
            for name, worker in self._cluster.workers.items()
            if name.split("-")[0] == role
        )

    async def _offsets(self) -> list[tuple[str, TopicPartition, int, int]]:
        groups = self.groups()
        async with asyncio.timeout(10):
            # First what is committed, then the ends, so that no group seems ahead of its topic.
            committed = {
                group: await self.admin.list_consumer_group_offsets(group) for group in groups
            }
            topics = sorted({topic for topics in groups.values() for topic in topics})
            described = await self.admin.describe_topics(topics)
            ends = await self._consumer.end_offsets(
                [
                    TopicPartition(each["topic"], partition["partition"])
                    for each in described
                    for partition in each["partitions"]
                ]
            )
        return [
            (group, partition, _offset(committed[group].get(partition)), end)
            for group, topics in groups.items()
            for partition, end in ends.items()
            if partition.topic in topics
        ]

    def _weigh(self) -> None:
        for name, worker in self._cluster.workers.items():
            if worker.pid is None:
                continue
            with suppress(OSError):
                status = Path(f"/proc/{worker.pid}/status").read_text("utf-8")
                for line in status.splitlines():
                    if line.startswith("VmRSS:"):
                        size = int(line.split()[1]) / 1024
                        self.peak_rss_mb[name] = max(self.peak_rss_mb[name], size)


def _offset(committed: Any) -> int:
    return 0 if committed is None else max(0, committed.offset)
