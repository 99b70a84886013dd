"""In which order the waiting calls of a provider entry are begun.

Two lanes share the starts by weight; within a lane each team gets the same, by cost. A team or
lane that has nothing waiting leaves its part to the others, and saves nothing up.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from pydantic import Field

from millrace.schemas.record import Frozen
from millrace.schemas.vocabulary import Lane

T = TypeVar("T")

_MOST_TURNS = 16
"""Bounds the work of finding the next call, as each turn of a team is a step."""


class LaneSettings(Frozen):
    """How waiting calls are ordered."""

    interactive_weight: float = Field(default=8.0, gt=0, allow_inf_nan=False)
    batch_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Of the work that is begun while both lanes have some waiting, the lanes' shares."""
    quantum_tokens: float = Field(default=1024.0, ge=1, allow_inf_nan=False)
    """What a team may begin before the next one's turn. Larger calls wait for several turns, at
    most 16, so that the largest are cheaper than they would be."""


class Verdict(Enum):
    """Whether an item may be begun now."""

    GO = "go"
    ITS_MODEL_WAITS = "its_model_waits"
    ALL_WAIT = "all_wait"


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """An item in line, and where it stands."""

    item: T
    model: str
    cost: float
    size: int
    number: int
    lane: "_Lane[T]"
    team: "_Team[T]"
    line: "_Line[T]"
    sequence_key: str | None
    in_line: bool = True


@dataclass(slots=True, eq=False)
class _Line(Generic[T]):
    """What a team has waiting for one model; those taken out of the middle are passed over."""

    model: str
    queue: "deque[Waiting[T]]" = field(default_factory=deque)
    count: int = 0

    def head(self) -> Waiting[T]:
        queue = self.queue
        while not queue[0].in_line:
            queue.popleft()
        return queue[0]


@dataclass(slots=True, eq=False)
class _Team(Generic[T]):
    """One team's lines within a lane."""

    name: str
    lines: dict[str, _Line[T]] = field(default_factory=dict)
    deficit: float = 0.0
    """What it may still begin in this turn, or has saved up for a call that costs more."""

    def head(self, blocked: set[str] | None) -> Waiting[T] | None:
        """The first that came of those whose model need not wait."""
        if blocked is None and len(self.lines) == 1:
            (line,) = self.lines.values()
            return line.head()
        blocked = blocked or set()
        first = None
        for line in self.lines.values():
            head = line.head()
            if head.model not in blocked and (first is None or head.number < first.number):
                first = head
        return first


@dataclass(slots=True, eq=False)
class _Lane(Generic[T]):
    weight: float
    teams: "OrderedDict[str, _Team[T]]" = field(default_factory=OrderedDict)
    """Those with something waiting; the first one has the turn."""
    turn: "_Team[T] | None" = None
    """Whose turn has begun, so that it has had its quantum."""
    served: float = 0.0
    """Cost begun so far, divided by the weight: the lane with the least is next."""
    passed_over: bool = False
    """All of it had to wait when it was its turn."""


@dataclass(slots=True)
class _Sequence(Generic[T]):
    """Where the waiting items of one sequence key stand, and how many there are."""

    lane: _Lane[T]
    team: str
    model: str
    count: int = 0


class Lanes(Generic[T]):
    """A bounded set of waiting items and the order in which they are taken.

    - Between lanes: start-time fair queueing, so neither starves and each gets its weight.
    - Between teams of a lane: deficit round robin.
    - Within a team of a lane: first in, first out, though an item whose model must wait does not
      hold up another model's. Items with the same sequence key (calls of a conversation) are
      taken in the order they came in, whatever lane, team and model they name: a later one
      stands in the line of the earlier one, and there the team's next ones wait behind it.

    Putting in takes constant time, and so does taking out, on average, unless models must wait.
    """

    def __init__(self, *, settings: LaneSettings, records: int, content_bytes: int) -> None:
        self._limit = records
        self._byte_limit = content_bytes
        self._quantum = settings.quantum_tokens
        self._highest_cost = _MOST_TURNS * settings.quantum_tokens
        self._lanes: dict[Lane, _Lane[T]] = {
            "interactive": _Lane(settings.interactive_weight),
            "batch": _Lane(settings.batch_weight),
        }
        self._both = (self._lanes["interactive"], self._lanes["batch"])
        self._sequences: dict[str, _Sequence[T]] = {}
        self._models: dict[str, int] = {}
        self._size = 0
        self._bytes = 0
        self._number = 0
        self._clock = 0.0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Waiting[T]]:
        """Everything that waits, in no certain order."""
        for lane in self._both:
            for team in lane.teams.values():
                for line in team.lines.values():
                    yield from (each for each in line.queue if each.in_line)

    @property
    def room(self) -> int:
        """How many more items may be put in; 0 also while they hold too many bytes."""
        return 0 if self._bytes >= self._byte_limit else max(0, self._limit - self._size)

    @property
    def low(self) -> bool:
        """Whether it is time to read on, so that reading pauses and resumes rarely."""
        return self._size <= self._limit // 2 and self._bytes < self._byte_limit

    def put(
        self,
        item: T,
        *,
        lane: Lane = "interactive",
        team: str = "",
        model: str = "",
        cost: float = 1.0,
        size: int = 0,
        sequence_key: str | None = None,
    ) -> Waiting[T]:
        """Put an item in line, also when there is no room; keep what is returned to remove it.

        Raises:
            ValueError: The cost is not above 0.
        """
        if not cost > 0:
            raise ValueError(f"a cost must be above 0, not {cost!r}")
        group = self._lanes[lane]
        line_model = model
        if sequence_key is not None:
            sequence = self._sequences.get(sequence_key)
            if sequence is None:
                sequence = self._sequences[sequence_key] = _Sequence(group, team, model)
            sequence.count += 1
            group, team, line_model = sequence.lane, sequence.team, sequence.model
        if not group.teams:
            # What it did not use while it was empty is gone.
            group.served = max(group.served, self._clock)
        members = group.teams.get(team)
        if members is None:
            members = group.teams[team] = _Team(team)
        line = members.lines.get(line_model)
        if line is None:
            line = members.lines[line_model] = _Line(line_model)
        self._number += 1
        waiting = Waiting(
            item,
            model,
            min(cost, self._highest_cost),
            size,
            self._number,
            group,
            members,
            line,
            sequence_key,
        )
        line.queue.append(waiting)
        line.count += 1
        self._size += 1
        self._bytes += size
        self._models[model] = self._models.get(model, 0) + 1
        return waiting

    def take(self, may_go: Callable[[T], Verdict] | None = None) -> T | None:
        """Take the next item that may go; None when none may, or nothing waits.

        `may_go` is asked at most once for each model whose items must wait, and not again once
        it has said that all wait.
        """
        first, second = self._both
        if second.teams and (not first.teams or second.served < first.served):
            first, second = second, first
        blocked: set[str] | None = None
        for lane in (first, second):
            while lane.teams:
                waiting = self._first(lane, blocked)
                if waiting is None:
                    lane.passed_over = True
                    break
                verdict = Verdict.GO if may_go is None else may_go(waiting.item)
                if verdict is Verdict.GO:
                    self._serve(waiting)
                    return waiting.item
                if verdict is Verdict.ALL_WAIT:
                    return None
                blocked = {waiting.model} if blocked is None else blocked | {waiting.model}
                if sum(self._models[model] for model in blocked) == self._size:
                    return None
        return None

    def remove(self, waiting: Waiting[T]) -> bool:
        """Take an item out of line, wherever it stands; False if it is in line no more."""
        if not waiting.in_line:
            return False
        waiting.in_line = False
        lane, team, line = waiting.lane, waiting.team, waiting.line
        line.count -= 1
        if line.queue[0] is waiting:
            line.queue.popleft()
        if not line.count:
            del team.lines[line.model]
            if not team.lines:
                del lane.teams[team.name]
        self._size -= 1
        self._bytes -= waiting.size
        self._count_out(waiting)
        return True

    def withdraw(self, which: Callable[[T], bool]) -> list[T]:
        """Take out every item of which this holds, in the order in which they came in."""
        found = [waiting for waiting in self if which(waiting.item)]
        found.sort(key=lambda waiting: waiting.number)
        for waiting in found:
            self.remove(waiting)
        return [waiting.item for waiting in found]

    def _serve(self, waiting: Waiting[T]) -> None:
        lane = waiting.lane
        if lane.passed_over:
            # What it could not use while it had to wait is gone, too.
            lane.passed_over = False
            lane.served = max(lane.served, self._clock)
        self._clock = lane.served
        lane.served += waiting.cost / lane.weight
        waiting.team.deficit -= waiting.cost
        self.remove(waiting)

    def _first(self, lane: _Lane[T], blocked: set[str] | None) -> Waiting[T] | None:
        """The head of the team whose turn it is; a turn that is used up goes to the next."""
        teams = lane.teams
        if lane.turn is not None and blocked is None:
            head = lane.turn.head(None)
            if head is not None and head.cost <= lane.turn.deficit:
                return head
        held_up = 0
        while held_up < len(teams):
            name, team = next(iter(teams.items()))
            head = team.head(blocked)
            if head is None:
                held_up += 1
                team.deficit = 0.0
            else:
                held_up = 0
                if lane.turn is not team:
                    lane.turn = team
                    team.deficit += self._quantum
                if team.deficit >= head.cost:
                    return head
            lane.turn = None
            teams.move_to_end(name)
        return None

    def _count_out(self, waiting: Waiting[T]) -> None:
        left = self._models[waiting.model] - 1
        if left:
            self._models[waiting.model] = left
        else:
            del self._models[waiting.model]
        key = waiting.sequence_key
        if key is not None:
            sequence = self._sequences[key]
            sequence.count -= 1
            if not sequence.count:
                del self._sequences[key]
