"""Past requests sent again, through another model or prompt, apart from live work and spend."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, Protocol

from millrace.schemas.call import Job
from millrace.schemas.errors import InvalidEventError, PipelineError
from millrace.schemas.ids import replayed_request_id, request_id_at
from millrace.schemas.request import ReplayRef, Request
from millrace.schemas.vocabulary import TaskType
from millrace.streams.dead_letters import RawRecord
from millrace.streams.routing_key import was_moved

Skip = Literal[
    "replay",
    "never accepted",
    "same id again",
    "sent before",
    "no template",
    "does not fit",
    "no route",
]
"""Why a request within the range and the filters is not sent again."""

SKIPPED: Mapping[Skip, str] = {
    "replay": "are replays themselves",
    "never accepted": "were bad, so never accepted",
    "same id again": "repeat the id of an earlier one",
    "sent before": "were sent by this replay before",
    "no template": "used no template to replace",
    "does not fit": "do not fit the new prompt",
    "no route": "fit no model this time",
}


class Accept(Protocol):
    """Makes the job of a request, as the router does; raises `PipelineError` when it would not."""

    def __call__(self, request: Request, *, request_id: str, accepted_at: datetime) -> Job:
        """Check and render."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which requests: those of a time range, and of a task, team and tags where these are set."""

    start: datetime
    end: datetime
    """Exclusive."""
    tasks: AbstractSet[TaskType] = frozenset()
    teams: AbstractSet[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)

    def holds(self, moment: datetime) -> bool:
        """Whether a moment lies in the range."""
        return self.start <= moment < self.end

    def wants(self, job: Job) -> bool:
        """Whether the filters let a job pass."""
        return (
            (not self.tasks or job.task in self.tasks)
            and (not self.teams or job.team in self.teams)
            and self.tags.items() <= job.tags.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """What is to be different this time; without any, the same is asked again."""

    models: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    prompt: str | None = None
    """`name@version` in place of the template that a request used."""

    def apply(self, request: Request) -> Request:
        """The request with the difference."""
        changed: dict[str, object] = {}
        if self.models:
            changed["models"] = self.models
        if self.providers:
            changed["providers"] = self.providers
        updates: dict[str, object] = {}
        if changed:
            updates["route"] = request.route.model_copy(update=changed)
        if self.prompt is not None:
            updates["template"] = self.prompt
        return request.model_copy(update=updates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A request to be sent again; its deadline counts from the sending."""

    request: Request
    original_request_id: str
    job: Job
    deadline_after: timedelta | None

    def at(self, moment: datetime) -> Request:
        """The request as it is sent at this moment."""
        if self.deadline_after is None:
            return self.request
        return self.request.model_copy(update={"deadline": moment + self.deadline_after})


@dataclass(slots=True, kw_only=True)
class Replay:
    """Decides about each record of the requests topic; ids derive from the replay's own.

    The same replay id makes the same requests, so a replay that was broken off goes on where it
    was when it is given the ids that it `sent` before.
    """

    replay_id: str
    selection: Selection
    variation: Variation
    accept: Accept
    sent: AbstractSet[str] = frozenset()
    _seen: set[str] = field(default_factory=set)

    def consider(self, record: RawRecord) -> Again | Skip | None:
        """What to do about a record; None when it is out of the range or the filters.

        A copy that the router moved to the partition of its key is none: its original counts.
        """
        moved = was_moved(record)
        if moved or not self.selection.holds(record.timestamp):
            return None
        try:
            request = Request.decode(record.value or b"", record.headers)
            original_id = request.request_id or request_id_at(
                record.topic, record.partition, record.offset
            )
            job = self.accept(request, request_id=original_id, accepted_at=record.timestamp)
        except PipelineError:
            return "never accepted"
        if not self.selection.wants(job):
            return None
        if request.replay is not None:
            return "replay"
        if original_id in self._seen:
            return "same id again"
        self._seen.add(original_id)
        return self._again(request, original_id, record.timestamp)

    def _again(self, request: Request, original_id: str, accepted_at: datetime) -> Again | Skip:
        request_id = replayed_request_id(self.replay_id, original_id)
        if request_id in self.sent:
            return "sent before"
        if self.variation.prompt is not None and request.template is None:
            return "no template"
        after = None if request.deadline is None else request.deadline - accepted_at
        again = self.variation.apply(request).model_copy(
            update={
                "request_id": request_id,
                "replay": ReplayRef(replay_id=self.replay_id, original_request_id=original_id),
                "reply_to": None,
                "deadline": None,
            }
        )
        try:
            job = self.accept(again, request_id=request_id, accepted_at=accepted_at)
        except PipelineError:
            return "does not fit"
        return Again(
            request=again,
            original_request_id=original_id,
            job=job,
            # One that had passed on arrival would only expire again.
            deadline_after=after if after is not None and after > timedelta(0) else None,
        )


@dataclass(slots=True)
class TaskTally:
    """What a replay comes to for one task."""

    requests: int = 0
    cost_usd: Decimal = Decimal(0)
    unpriced: int = 0
    """Requests whose cost cannot be estimated; they are not in `cost_usd`."""


@dataclass(slots=True)
class Tally:
    """What a replay comes to."""

    tasks: dict[TaskType, TaskTally] = field(default_factory=dict)
    skipped: Counter[Skip] = field(default_factory=Counter)
    reasons: dict[Skip, str] = field(default_factory=dict)
    """What was said of the first one skipped, where something was."""
    request_ids: set[str] = field(default_factory=set)

    @property
    def requests(self) -> int:
        """How many requests are sent, or would be."""
        return len(self.request_ids)

    @property
    def cost_usd(self) -> Decimal:
        """The estimate over all tasks."""
        return sum((task.cost_usd for task in self.tasks.values()), Decimal(0))

    @property
    def unpriced(self) -> int:
        """Requests whose cost cannot be estimated."""
        return sum(task.unpriced for task in self.tasks.values())

    def add(self, again: Again, cost_usd: Decimal | None) -> None:
        """Count a request."""
        task = self.tasks.setdefault(again.job.task, TaskTally())
        task.requests += 1
        if cost_usd is None:
            task.unpriced += 1
        else:
            task.cost_usd += cost_usd
        self.request_ids.add(again.job.request_id)


class Pace:
    """Lets at most so many pass a second, evenly, from the first one on."""

    def __init__(
        self,
        *,
        per_second: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._next: float | None = None

    async def turn(self) -> None:
        """Wait until the next may pass."""
        now = self._clock()
        due = now if self._next is None else max(self._next, now - self._interval)
        self._next = due + self._interval
        if due > now:
            await self._sleep(due - now)


async def run_replay(
    records: AsyncIterator[RawRecord],
    *,
    replay: Replay,
    estimate: Callable[[Again], Decimal | None],
    send: Callable[[Again], Awaitable[None]] | None,
    pace: Pace,
    limit: int | None,
) -> Tally:
    """Go through the records, count and send; without `send`, only count.

    `estimate` raises `InvalidEventError` for a request that would be refused: it is left out.

    Raises:
        BrokerError: A request could not be sent; what was sent before stays sent.
    """
    tally = Tally()
    async for record in records:
        decision = replay.consider(record)
        if decision is None:
            continue
        if not isinstance(decision, Again):
            tally.skipped[decision] += 1
            continue
        try:
            cost_usd = estimate(decision)
        except InvalidEventError as error:
            tally.skipped["no route"] += 1
            tally.reasons.setdefault("no route", error.message)
            continue
        if send is not None:
            await pace.turn()
            await send(decision)
        tally.add(decision, cost_usd)
        if limit is not None and tally.requests >= limit:
            break
    return tally
