"""Places of calls in flight: who has one, who waits, and how many prepare ahead."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_doubles import until

from millrace.streams.places import Place, Places


@dataclass
class Bench:
    """Places on a clock that is moved by hand."""

    limit: int = 1
    seconds: float = 0.0
    held: bool = True
    rooms: int = 0
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.places = Places(
            self.limit, now=lambda: self.seconds, may_take=lambda: self.held, on_room=self._room
        )

    def _room(self) -> None:
        self.rooms += 1

    async def call(self, *, prepared_for: float, taken_for: float) -> None:
        """A call from its beginning to the provider's answer."""
        place = self.places.begin()
        place.prepare()
        self.seconds += prepared_for
        await place.take()
        self.seconds += taken_for
        place.leave()


async def taking(place: Place) -> "asyncio.Task[None]":
    """A call that is ready, once it waits for its place or has it."""
    task = asyncio.create_task(place.take())
    await asyncio.sleep(0)
    return task


async def test_who_is_ready_waits_until_a_place_is_free() -> None:
    """First come, first served."""
    bench = Bench()
    first, second, third = (bench.places.begin() for _ in range(3))
    await first.take()
    waiting = [await taking(second), await taking(third)]

    assert [each.done() for each in waiting] == [False, False]
    first.leave()
    await waiting[0]
    assert (bench.places.taken, waiting[1].done()) == (1, False)
    second.leave()
    await waiting[1]
    assert bench.places.taken == 1


async def test_a_place_that_a_call_has_is_not_taken_twice() -> None:
    """A retry in place asks for it again."""
    bench = Bench()
    place = bench.places.begin()
    assert not place.preparing
    for preparing in (True, False):
        place.prepare()
        assert place.preparing is preparing
        await place.take()

    assert bench.places.taken == 1
    place.leave()
    place.leave()
    assert (bench.places.taken, bench.places.preparing) == (0, 0)
    assert bench.rooms == 1


async def test_who_gives_up_waiting_takes_nothing() -> None:
    """The place goes to whoever stands behind."""
    bench = Bench()
    first, second, third = (bench.places.begin() for _ in range(3))
    await first.take()
    impatient, patient = await taking(second), await taking(third)

    impatient.cancel()
    first.leave()
    await patient

    assert impatient.cancelled()
    second.leave()
    assert (bench.places.taken, bench.places.preparing) == (1, 0)


async def test_who_gives_up_in_the_moment_in_which_a_place_is_free_hands_it_on() -> None:
    """It was promised to a call whose task had yet to run."""
    bench = Bench()
    first, second, third = (bench.places.begin() for _ in range(3))
    await first.take()
    impatient, patient = await taking(second), await taking(third)

    first.leave()
    impatient.cancel()
    await patient

    assert impatient.cancelled()
    second.leave()
    third.leave()
    assert (bench.places.taken, bench.places.preparing) == (0, 0)


async def test_nobody_takes_a_place_while_the_calls_may_be_another_s() -> None:
    """Whoever is ready then waits until places are handed out again."""
    bench = Bench(held=False)
    task = await taking(bench.places.begin())
    bench.places.hand_out()
    assert (task.done(), bench.places.preparing) == (False, 1)

    bench.held = True
    bench.places.hand_out()
    await task
    assert (bench.places.taken, bench.places.preparing) == (1, 0)


async def test_more_places_are_handed_out_at_once() -> None:
    """By new settings; with fewer, those under way go on."""
    bench = Bench()
    calls = [await taking(bench.places.begin()) for _ in range(4)]
    assert bench.places.taken == 1

    bench.places.limit = 3
    await until(lambda: sum(each.done() for each in calls) == 3)
    bench.places.limit = 1
    assert bench.places.taken == 3
    calls[3].cancel()


async def test_nobody_prepares_ahead_before_anything_is_known() -> None:
    """As many begin as there are places."""
    bench = Bench(limit=3)
    for _ in range(3):
        assert bench.places.room
        bench.places.begin()

    assert not bench.places.room


@pytest.mark.parametrize(
    ("prepared", "taken", "ahead"),
    [(0.1, 1.0, 20), (0.005, 60.0, 0), (0.005, 0.05, 20), (5.0, 1.0, 100)],
)
async def test_as_many_prepare_ahead_as_find_a_place_in_time(
    prepared: float, taken: float, ahead: int
) -> None:
    """Twice what ends while one prepares: none for long calls, and never more than places."""
    bench = Bench(limit=100)
    for _ in range(500):
        await bench.call(prepared_for=prepared, taken_for=taken)

    assert bench.places.ahead == pytest.approx(ahead, abs=1)
    for _ in range(100 + bench.places.ahead):
        assert bench.places.room
        bench.places.begin()
    assert not bench.places.room


@dataclass
class Calls:
    """Calls that begin, ask for their place and leave it, in any order."""

    bench: Bench
    calls: list[tuple[Place, "asyncio.Task[None] | None"]] = field(default_factory=list)

    def do(self, action: str, number: int) -> None:
        """Have one of them do something; what it cannot do now is left out."""
        if action == "begin":
            self.calls.append((self.bench.places.begin(), None))
        elif action == "lease":
            self.bench.held = not self.bench.held
            self.bench.places.hand_out()
        elif self.calls:
            self._do(action, number % len(self.calls))

    def _do(self, action: str, at: int) -> None:
        place, task = self.calls[at]
        if action == "take" and task is None:
            self.calls[at] = (place, asyncio.create_task(place.take()))
        elif action == "leave" and (task is None or task.done()):
            place.leave()
            del self.calls[at]
        elif action == "cancel" and task is not None:
            task.cancel()

    @property
    def having(self) -> int:
        """How many have a place."""
        return sum(
            task is not None and task.done() and not task.cancelled() for _, task in self.calls
        )

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return sum(task is not None and not task.done() for _, task in self.calls)


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["begin", "take", "leave", "cancel", "lease"]), st.integers(0, 7)),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(limit=st.integers(1, 3), actions=ACTIONS)
async def test_never_more_than_the_limit_have_a_place(
    limit: int, actions: list[tuple[str, int]]
) -> None:
    """Whatever calls do in whatever order; and no place stands empty while somebody waits."""
    bench = Bench(limit=limit)
    calls = Calls(bench)
    for action, number in actions:
        calls.do(action, number)
        assert bench.places.taken <= limit
        if number % 2:
            await settle()
    await settle()

    assert bench.places.taken == calls.having
    assert bench.places.preparing == len(calls.calls) - calls.having
    assert not bench.held or calls.having == limit or not calls.waiting
    for place, task in calls.calls:
        if task is not None:
            task.cancel()
        place.leave()
    await settle()
    assert bench.places.preparing == bench.places.taken == 0


async def settle() -> None:
    """Let tasks come to where they wait."""
    for _ in range(3):
        await asyncio.sleep(0)
