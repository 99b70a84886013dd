"""The order in which waiting calls are started."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from millrace.schemas.vocabulary import Lane
from millrace.streams.lanes import Lanes, LaneSettings, Verdict, Waiting

LANES: tuple[Lane, ...] = ("interactive", "batch")


def lanes(*, records: int = 4096, content_bytes: int = 1000, **fields: float) -> Lanes[str]:
    """Lanes with these settings."""
    return Lanes(
        settings=LaneSettings.model_validate(fields), records=records, content_bytes=content_bytes
    )


def fill(into: Lanes[str], count: int, *, lane: Lane = "interactive", team: str = "t") -> None:
    """Put in so many of a team, numbered."""
    for number in range(count):
        into.put(f"{lane[0]}/{team}/{number}", lane=lane, team=team)


def taken(source: Lanes[str], most: int = 10_000) -> list[str]:
    """Take up to so many."""
    found: list[str] = []
    while len(found) < most and (item := source.take()) is not None:
        found.append(item)
    return found


def test_nothing_waits_nothing_is_taken() -> None:
    """Also after it was full."""
    line = lanes()
    assert line.take() is None
    fill(line, 2)

    assert taken(line) == ["i/t/0", "i/t/1"]
    assert (line.take(), len(line)) == (None, 0)


def test_lanes_share_by_weight() -> None:
    """Three interactive ones for each batch one, and none of them all at once."""
    line = lanes(interactive_weight=3, batch_weight=1)
    fill(line, 40)
    fill(line, 40, lane="batch")

    order = [item[0] for item in taken(line, 40)]

    assert Counter(order) == {"i": 30, "b": 10}
    assert all("b" in order[start : start + 5] for start in range(36))


def test_an_empty_lane_leaves_its_part_and_saves_nothing_up() -> None:
    """A batch that comes late does not catch up on what it missed."""
    line = lanes(interactive_weight=1, batch_weight=1)
    fill(line, 100)
    taken(line, 50)
    fill(line, 50, lane="batch")

    order = [item[0] for item in taken(line, 20)]

    assert Counter(order) == {"i": 10, "b": 10}


def test_teams_share_evenly() -> None:
    """However many calls one of them has waiting."""
    line = lanes(quantum_tokens=1)
    fill(line, 500, team="big")
    fill(line, 10, team="small")

    assert Counter(item.split("/")[1] for item in taken(line, 20)) == {"big": 10, "small": 10}


def test_teams_share_by_cost() -> None:
    """A team with calls ten times as large starts a tenth as many."""
    line = lanes(quantum_tokens=10)
    for number in range(200):
        line.put(f"large{number}", lane="batch", team="large", cost=10)
        line.put(f"small{number}", lane="batch", team="small", cost=1)

    assert Counter(item[:5] for item in taken(line, 110)) == {"large": 10, "small": 100}


def test_a_call_above_the_quantum_waits_for_several_turns() -> None:
    """Teams share by cost, however small the quantum is."""
    line = lanes(quantum_tokens=1)
    for number in range(200):
        line.put(f"large{number}", team="large", cost=8)
        line.put(f"small{number}", team="small", cost=1)

    assert Counter(item[:5] for item in taken(line, 90)) == {"large": 10, "small": 80}


def test_a_cost_above_sixteen_quanta_counts_as_them() -> None:
    """Neither team nor lane is shut out for long by one huge call."""
    line = lanes(quantum_tokens=1, interactive_weight=1, batch_weight=1)
    for number in range(20):
        line.put(f"huge{number}", lane="batch", team="huge", cost=1e6)
        line.put(f"tiny{number}", lane="batch", team="tiny", cost=16)
        line.put(f"live{number}", lane="interactive", cost=16)

    chosen = Counter(item[:4] for item in taken(line, 20))

    assert chosen == {"huge": 5, "tiny": 5, "live": 10}


def test_conversations_keep_their_order_across_lanes_and_teams() -> None:
    """A call stands behind the earlier ones of its conversation, whatever lane it names."""
    line = lanes(interactive_weight=1000)
    line.put("first", lane="batch", team="a", sequence_key="c")
    line.put("second", lane="interactive", team="b", sequence_key="c")
    line.put("other", lane="interactive", team="b")

    assert taken(line) == ["other", "first", "second"]
    line.put("third", lane="interactive", team="b", sequence_key="c")
    fill(line, 1, lane="batch")
    assert taken(line) == ["third", "b/t/0"]


def test_it_is_bounded_by_number_and_bytes_and_takes_what_was_read() -> None:
    """Whoever puts in looks whether there is room; reading goes on when half of it is free."""
    line = lanes(records=4, content_bytes=100)
    fill(line, 4)
    assert (line.room, line.low) == (0, False)
    fill(line, 1)
    assert (line.room, len(line)) == (0, 5)

    taken(line, 3)

    assert (line.room, line.low) == (2, True)
    line.put("huge", size=100)
    assert (line.room, line.low) == (0, False)
    taken(line)
    assert (line.room, line.low) == (4, True)


@pytest.mark.parametrize("cost", [0, -1, float("nan")])
def test_a_cost_must_be_above_zero(cost: float) -> None:
    """Else a team could start without end."""
    with pytest.raises(ValueError, match="above 0"):
        lanes().put("x", lane="batch", cost=cost)


def test_what_is_taken_out_of_line_is_not_started() -> None:
    """Wherever it stands, and only once."""
    line = lanes()
    places = [line.put(name, lane="batch", team=name[0]) for name in ("a1", "a2", "b1")]

    assert [line.remove(places[1]), line.remove(places[1])] == [True, False]
    assert taken(line) == ["a1", "b1"]
    assert line.remove(places[0]) is False


def refusing(*models: str) -> Callable[[tuple[str, int]], Verdict]:
    """Lets items go whose model is none of these; an item is a model and a number."""
    return lambda item: Verdict.ITS_MODEL_WAITS if item[0] in models else Verdict.GO


def by_model(*names: str, **fields: float) -> Lanes[tuple[str, int]]:
    """Items in line for these models, numbered from 0."""
    line: Lanes[tuple[str, int]] = Lanes(
        settings=LaneSettings.model_validate(fields), records=4096, content_bytes=1000
    )
    for number, name in enumerate(names):
        line.put((name, number), model=name)
    return line


def test_a_model_that_waits_holds_up_no_other_one() -> None:
    """Its items keep their places, and go first when they may."""
    line = by_model("a", "a", "b", "a", "b")

    assert line.take(refusing("a")) == ("b", 2)
    assert line.take(refusing("a", "b")) is None
    assert [line.take(), line.take(), line.take()] == [("a", 0), ("a", 1), ("a", 3)]


def test_when_all_wait_nothing_is_passed_over() -> None:
    """Else small calls would go before a large one for ever."""
    line = by_model("a", "b")
    asked: list[tuple[str, int]] = []

    def all_wait(item: tuple[str, int]) -> Verdict:
        asked.append(item)
        return Verdict.ALL_WAIT

    assert line.take(all_wait) is None
    assert asked == [("a", 0)]
    assert line.take() == ("a", 0)


def test_each_model_that_waits_is_asked_about_once() -> None:
    """However many teams have calls for it."""
    line: Lanes[str] = lanes()
    asked: list[str] = []

    def wait(item: str) -> Verdict:
        asked.append(item)
        return Verdict.ITS_MODEL_WAITS

    for team in range(50):
        line.put("x", team=str(team), model="m")
    assert line.take(wait) is None

    assert asked == ["x"]


def test_a_lane_that_had_to_wait_saves_nothing_up() -> None:
    """Its calls come back into line, not before all others."""
    line: Lanes[tuple[str, int]] = Lanes(
        settings=LaneSettings(interactive_weight=1, batch_weight=1), records=999, content_bytes=9
    )
    for number in range(100):
        line.put(("slow", number), model="slow", lane="interactive")
        line.put(("free", number), model="free", lane="batch")
    for _ in range(50):
        assert line.take(refusing("slow")) is not None

    after = Counter(item[0] for _ in range(20) if (item := line.take()) is not None)

    assert sorted(after.values()) in ([10, 10], [9, 11])


def test_a_conversation_waits_whole_for_the_model_of_its_first_call() -> None:
    """Its next call asks another model, and stands behind it all the same."""
    line: Lanes[tuple[str, int]] = by_model()
    line.put(("a", 0), model="a", sequence_key="c")
    line.put(("b", 1), model="b", sequence_key="c")
    line.put(("b", 2), model="b")

    assert line.take(refusing("a")) == ("b", 2)
    assert line.take(refusing("a")) is None
    assert [line.take(), line.take()] == [("a", 0), ("b", 1)]


def test_what_is_withdrawn_comes_in_the_order_of_its_arrival() -> None:
    """From all lanes and teams."""
    line = lanes()
    for number, lane in enumerate(("batch", "interactive") * 3):
        line.put(str(number), lane=cast("Lane", lane), team=str(number % 2), size=1)

    assert line.withdraw(lambda item: item != "2") == ["0", "1", "3", "4", "5"]
    assert (len(line), taken(line)) == (1, ["2"])


class AnyTraffic(RuleBasedStateMachine):
    """Any interleaving of coming, starting and leaving: nothing is lost, doubled or overtaken."""

    def __init__(self) -> None:
        super().__init__()
        self.line: Lanes[int] = Lanes(
            settings=LaneSettings(quantum_tokens=4), records=30, content_bytes=10**9
        )
        self.numbers: Iterator[int] = count()
        self.waiting: dict[int, Waiting[int]] = {}
        self.names: dict[int, tuple[str, str | None]] = {}

    @rule(
        lane=st.sampled_from(LANES),
        team=st.sampled_from("abc"),
        model=st.sampled_from("mn"),
        cost=st.floats(0.01, 10),
        key=st.none() | st.sampled_from("xyz"),
    )
    def put(self, lane: Lane, team: str, model: str, cost: float, key: str | None) -> None:
        if not self.line.room:
            return
        number = next(self.numbers)
        self.waiting[number] = self.line.put(
            number, lane=lane, team=team, model=model, cost=cost, size=number, sequence_key=key
        )
        self.names[number] = (model, key)

    @rule(times=st.integers(1, 5), held=st.sets(st.sampled_from("mn")))
    def take(self, times: int, held: set[str]) -> None:
        def may_go(number: int) -> Verdict:
            wait = self.names[number][0] in held
            return Verdict.ITS_MODEL_WAITS if wait else Verdict.GO

        for _ in range(times):
            number = self.line.take(may_go)
            if number is None:
                # Only what must wait, or stands in a line behind something that must.
                for other, place in self.waiting.items():
                    ahead = {
                        self.names[each][0]
                        for each, earlier in self.waiting.items()
                        if earlier.line is place.line and each <= other
                    }
                    assert ahead & held
                return
            assert self.names[number][0] not in held
            taken = self.waiting.pop(number)
            key = self.names[number][1]
            for other, place in self.waiting.items():
                if key is not None and self.names[other][1] == key:
                    assert other > number
                if place.line is taken.line or (not held and place.team is taken.team):
                    assert other > number

    @rule(pick=st.integers(0, 50))
    def remove(self, pick: int) -> None:
        if self.waiting:
            number = sorted(self.waiting)[pick % len(self.waiting)]
            assert self.line.remove(self.waiting.pop(number))

    @invariant()
    def it_counts(self) -> None:
        assert len(self.line) == len(self.waiting)
        assert self.line.room == 30 - len(self.waiting)

    @invariant()
    def nothing_is_kept_of_what_has_gone(self) -> None:
        teams = {id(each.team) for each in self.waiting.values()}
        assert sum(len(lane.teams) for lane in self.line._both) == len(teams)
        assert self.line._bytes == sum(self.waiting)
        assert sum(self.line._models.values()) == len(self.waiting)
        keys = {each.sequence_key for each in self.waiting.values()} - {None}
        assert set(self.line._sequences) == keys


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(
    weights=st.tuples(st.floats(0.5, 20), st.floats(0.5, 20)),
    costs=st.lists(st.floats(0.1, 8), min_size=1, max_size=7),
)
@settings(max_examples=50, deadline=None)
def test_busy_lanes_stay_within_one_call_of_their_weights(
    weights: tuple[float, float], costs: list[float]
) -> None:
    """At every moment, for any weights and costs: so neither starves."""
    line: Lanes[tuple[Lane, float]] = Lanes(
        settings=LaneSettings(
            interactive_weight=weights[0], batch_weight=weights[1], quantum_tokens=8
        ),
        records=4096,
        content_bytes=1000,
    )
    for lane in LANES:
        for number in range(300):
            cost = costs[number % len(costs)]
            line.put((lane, cost), lane=lane, cost=cost)
    served: dict[Lane, float] = defaultdict(float)
    for _ in range(300):
        item = line.take()
        assert item is not None
        served[item[0]] += item[1]
        gap = abs(served["interactive"] / weights[0] - served["batch"] / weights[1])
        assert gap <= max(costs) / min(weights) + 1e-9


@given(
    teams=st.integers(2, 6),
    costs=st.lists(st.floats(0.1, 8), min_size=1, max_size=7),
    seed=st.randoms(),
)
@settings(max_examples=50, deadline=None)
def test_busy_teams_stay_within_two_turns_of_each_other(
    teams: int, costs: list[float], seed: "st.random.Random"
) -> None:
    """At every moment: so no team starves, and none is served ahead of its part."""
    line: Lanes[tuple[str, float]] = Lanes(
        settings=LaneSettings(quantum_tokens=8), records=4096, content_bytes=9
    )
    for _ in range(200):
        for team in range(teams):
            cost = costs[seed.randrange(len(costs))]
            line.put((str(team), cost), lane="batch", team=str(team), cost=cost)
    served: dict[str, float] = dict.fromkeys(map(str, range(teams)), 0.0)
    for _ in range(200):
        item = line.take()
        assert item is not None
        served[item[0]] += item[1]
        assert max(served.values()) - min(served.values()) <= 2 * 8 + 1e-9


@given(
    interactive_weight=st.integers(1, 12),
    newcomers=st.lists(st.tuples(st.sampled_from(LANES), st.integers(0, 30)), min_size=400),
)
@settings(max_examples=20, deadline=None)
def test_a_call_that_waits_is_reached_whoever_comes_meanwhile(
    interactive_weight: int, newcomers: list[tuple[Lane, int]]
) -> None:
    """Two calls come for each one started, of ever other teams, but none stands before it."""
    line: Lanes[str] = Lanes(
        settings=LaneSettings(interactive_weight=interactive_weight, quantum_tokens=1),
        records=4096,
        content_bytes=1000,
    )
    fill(line, 10, lane="batch", team="early")
    line.put("patient", lane="batch", team="patient")
    fill(line, 10)
    for number in range(2 + 2 * (interactive_weight + 1)):
        if line.take() == "patient":
            return
        for lane, team in newcomers[2 * number : 2 * number + 2]:
            line.put("newcomer", lane=lane, team=str(team))

    raise AssertionError("it starved")
