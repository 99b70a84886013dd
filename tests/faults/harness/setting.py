"""A cluster with its load, its tape and its watch: what a fault is injected into."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from harness import oracle
from harness.cluster import KEY, PASSWORD, PROMPT_MARK, Cluster, cluster
from harness.load import PROVIDERS, Load, Sent
from harness.outside import ROLES
from harness.tape import Tape
from harness.watch import Watch

STALL_SECONDS = 30.0
RSS_MB = 600.0
TOPICS = (
    "requests",
    "chunks",
    "outcomes",
    "responses",
    "usage",
    "retries",
    "dead-letters",
    *(f"calls.{name}" for name in PROVIDERS),
)


@dataclass(eq=False)
class Setting:
    """What faults and checks work with."""

    cluster: Cluster
    load: Load
    tape: Tape
    watch: Watch
    random: Random
    deaths: list[oracle.AtRisk] = field(default_factory=list)
    """Violent deaths of callers, and what may be called again after each."""

    def of(self, request_ids: Sequence[str]) -> list[Sent]:
        """What was sent under these ids."""
        return [self.load.sent[each] for each in request_ids]

    async def settled(self, request_ids: Sequence[str], *, seconds: float = 60.0) -> None:
        """These requests end well, once each, with whole streams.

        Raises:
            AssertionError: They do not.
        """
        await self.tape.all_end(request_ids, seconds=seconds)
        # A second end, or a chunk out of order, would come about now.
        await self.tape.caught_up()
        sent = self.of(request_ids)
        wrong = oracle.one_end_each(self.tape, sent) + oracle.gapless_streams(self.tape, sent)
        wrong += oracle.paid_for_nothing(self.tape, self.deaths, prefix=self.cluster.prefix)
        assert not wrong, oracle.shown(wrong)

    async def freeze(self, role: str) -> None:
        """SIGSTOP a process; what a caller had under way may be called again by another one."""
        self.cluster.workers[role].freeze()
        await self.note_death(role)

    async def note_death(self, name: str) -> None:
        """Note what may be called again after the death of a process, if it made calls.

        To be called when it can commit no more, and before anybody has taken over from it.
        """
        if not name.startswith("caller"):
            return
        at = time.time()
        await self.tape.caught_up()
        commits = await self.watch.commits_of_callers()
        risk = oracle.at_risk(self.tape, commits, at=at, prefix=self.cluster.prefix)
        self.deaths.append(risk)

    async def judge(self) -> list[str]:
        """Everything that must hold in the end; returns what does not.

        Raises:
            AssertionError: A group's lag does not go away.
        """
        tape, watch, cluster = self.tape, self.watch, self.cluster
        await watch.until_no_lag()
        await tape.caught_up()
        lines = await cluster.upstream.lines()
        sent = list(self.load.sent.values())
        wrong = oracle.one_end_each(tape, sent)
        wrong += oracle.gapless_streams(tape, sent)
        wrong += oracle.every_call_is_in_the_ledger(tape, lines)
        wrong += oracle.nothing_committed_past_unfinished_work(
            tape, watch.commits, prefix=cluster.prefix
        )
        wrong += oracle.paid_for_nothing(tape, self.deaths, prefix=cluster.prefix)
        async with cluster.reader() as reader:
            wrong += await oracle.books_are_right(reader, lines)
            wrong += await oracle.keeps_secrets(
                tape,
                reader,
                folder=cluster.folder,
                key=KEY,
                password=PASSWORD,
                prompt=PROMPT_MARK,
            )
        stall = watch.longest_stall
        if stall is not None and stall.seconds > STALL_SECONDS:
            wrong.append(
                f"{stall.group} made no progress on {stall.partition} for {stall.seconds:.0f} s"
            )
        wrong += [
            f"{name} took {size:.0f} MB"
            for name, size in watch.peak_rss_mb.items()
            if size > RSS_MB
        ]
        return wrong


@asynccontextmanager
async def setting(
    folder: Path,
    *,
    seed: int,
    partitions: int = 2,
    roles: tuple[str, ...] = ROLES,
    proxied: bool = True,
    entries: Mapping[str, Any] | None = None,
) -> AsyncIterator[Setting]:
    """A cluster that takes requests, watched."""
    async with (
        cluster(
            folder,
            seed=seed,
            partitions=partitions,
            roles=roles,
            proxied=proxied,
            entries=entries,
        ) as found,
        Load(
            bootstrap_servers=found.bootstrap_servers,
            topic=found.topic("requests"),
            mark=PROMPT_MARK,
            seed=seed,
        ) as load,
        Tape(bootstrap_servers=found.bootstrap_servers, prefix=found.prefix, names=TOPICS) as tape,
        Watch(cluster=found) as watch,
    ):
        yield Setting(found, load, tape, watch, Random(f"faults {seed}"))
