"""What a strategy can decide, and what it decides from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millrace.agents.joins.state import Answer, JoinState, Member
from millrace.schemas.call import Job, Plan
from millrace.schemas.response import CascadeVerdict
from millrace.schemas.vocabulary import DecidedBy


@dataclass(frozen=True, slots=True)
class Table:
    """An open join, as a strategy looks at it."""

    state: JoinState
    job: Job
    plan: Plan
    final: bool
    """Time is up: the strategy must finish with what there is."""

    def answers(self, numbers: Sequence[int]) -> dict[int, Answer]:
        """The valid answers of some members, by member."""
        found = {number: self.state.member(number).answer for number in numbers}
        return {number: answer for number, answer in found.items() if answer is not None}

    def member(self, number: int) -> Member:
        """What is known of a member."""
        return self.state.member(number)

    def settled(self, numbers: Sequence[int]) -> bool:
        """Whether nothing more is to come from these members."""
        return self.final or all(self.member(number).done for number in numbers)

    def enough(self, answers: Mapping[int, Answer]) -> bool:
        """Whether as many have answered as must."""
        return len(answers) >= max(1, self.plan.quorum)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing follows yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Call the members of the next stage."""

    stage: int
    members: tuple[int, ...]
    skipped: tuple[int, ...] = ()
    """Members that are not needed."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the request, with an answer or without one."""

    answer: Answer | None = None
    by: DecidedBy | None = None
    member: int | None = None
    """Who answered, judged, merged, refined or combined."""
    agreeing: tuple[int, ...] = ()
    dissenting: tuple[int, ...] = ()
    agreement: float | None = None
    cascade: CascadeVerdict | None = None
    notes: tuple[str, ...] = field(default=())


Move = Wait | Launch | Finish
WAIT = Wait()
