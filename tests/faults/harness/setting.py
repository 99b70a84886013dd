"""A cluster with its load, its tape and its watch: what a fault is injected into."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from harness import oracle
from harness.cluster import KEY, PASSWORD, PROMPT_MARK, Cluster, cluster
from harness.load import PROVIDERS, Load, Sent
from harness.membership import Members, Membership
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
    membership: Membership
    random: Random
    deaths: list[oracle.AtRisk] = field(default_factory=list)
    """Violent deaths of callers, and what may be called again after each."""
    given_up: set[str] = field(default_factory=set)
    """Requests that a fault was blamed for; they are nobody else's fault."""
    told: set[str] = field(default_factory=set)
    """What a fault was blamed for in words; it is said once."""

    def of(self, request_ids: Sequence[str]) -> list[Sent]:
        """What was sent under these ids."""
        return [self.load.sent[each] for each in request_ids]

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for records that make something hold, as long as any come and every process lives.

        Raises:
            AssertionError: It does not come to hold.
        """
        workers = self.cluster.workers

        def holds() -> bool:
            dead = [why for each in workers.values() if (why := each.ended_by_itself)]
            assert not dead, "; ".join(dead)
            return bool(condition())

        await self.tape.until(holds, what)

    async def settled(self, request_ids: Sequence[str]) -> None:
        """These requests end well, once each, with whole streams.

        Raises:
            AssertionError: They do not.
        """
        ends = self.tape.ends
        waiting = set(request_ids)

        def over() -> bool:
            waiting.difference_update([each for each in waiting if each in ends])
            return not waiting

        try:
            await self.until(over, "ends")
        except AssertionError as error:
            self.given_up |= waiting
            some = ", ".join(sorted(waiting)[:5])
            raise AssertionError(f"{error}; {len(waiting)} without end: {some}") from None
        # A second end, or a chunk out of order, would come about now.
        await self.tape.caught_up()
        sent = self.of(request_ids)
        wrong = oracle.one_end_each(self.tape, sent) + oracle.gapless_streams(self.tape, sent)
        wrong += await self.paid_for_nothing(self.deaths)
        wrong = self._news(wrong)
        assert not wrong, oracle.shown(wrong)

    async def paid_for_nothing(self, deaths: Sequence[oracle.AtRisk]) -> list[str]:
        """Attempts that the simulator was asked for again though no such death explains it."""
        prefix = self.cluster.prefix
        if not oracle.paid_for_nothing(self.tape, deaths, prefix=prefix):
            return []
        asked = oracle.asked(await self.cluster.upstream.lines())
        return oracle.paid_for_nothing(self.tape, deaths, prefix=prefix, asked=asked)

    async def made_whole(self) -> list[str]:
        """Put right what is broken still, and wait until every role works on everything it reads.

        Returns what had happened that no fault had asked for.

        Raises:
            AssertionError: The pipeline does not come back.
        """
        cluster = self.cluster
        await cluster.heal()
        wrong = []
        for name, worker in list(cluster.workers.items()):
            if (why := worker.ended_by_itself) is not None:
                wrong.append(why)
                await worker.gone()
                await self.note_death(name)
            if name not in cluster.roles and (worker := cluster.workers.pop(name)).pid is not None:
                await worker.kill()
                await self.note_death(name)
        away = [cluster.workers[role] for role in cluster.roles]
        await asyncio.gather(*(worker.start() for worker in away if worker.pid is None))
        try:
            await self._everything_read()
        except AssertionError as error:
            # Whatever it is, the next fault meets a pipeline that works.
            wrong.append(str(error))
            for role in cluster.roles:
                await cluster.workers[role].kill()
                await self.note_death(role)
            await asyncio.gather(*(cluster.workers[role].start() for role in cluster.roles))
            await self._everything_read()
        return wrong

    async def _everything_read(self) -> None:
        """Every group has its one member, and all partitions with it."""
        groups = [each for role in self.cluster.roles for each in self.watch.groups_of(role)]
        await self.membership.until(
            groups,
            lambda members: members == Members(count=1, stable=True),
            "every group to have its one member",
        )

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
        # Commits first: what comes onto the topics while they are read can only add to the risk.
        commits = await self.watch.commits_of_callers()
        await self.tape.caught_up()
        self.deaths.append(oracle.at_risk(self.tape, commits, prefix=self.cluster.prefix))

    async def judge(self) -> list[str]:
        """Everything that must hold in the end; returns what does not and was not told before.

        Raises:
            AssertionError: A group's lag does not go away.
        """
        tape, watch, cluster = self.tape, self.watch, self.cluster
        await watch.until_no_lag()
        await tape.caught_up()
        lines = await cluster.upstream.lines()
        sent = [each for each in self.load.sent.values() if each.request_id not in self.given_up]
        wrong = oracle.one_end_each(tape, sent)
        wrong += oracle.gapless_streams(tape, sent)
        wrong += oracle.every_call_is_in_the_ledger(tape, lines)
        wrong += oracle.nothing_committed_past_unfinished_work(
            tape, watch.commits, prefix=cluster.prefix
        )
        wrong += await self.paid_for_nothing(self.deaths)
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
        return self._news(wrong)

    def _news(self, wrong: Sequence[str]) -> list[str]:
        news = [each for each in wrong if each not in self.told]
        self.told.update(news)
        return news


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
        membership = Membership(admin=watch.admin)
        yield Setting(found, load, tape, watch, membership, Random(f"faults {seed}"))
