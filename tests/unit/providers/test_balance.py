"""Choosing among the instances or keys of an entry."""

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.balance import BalancePolicy, Balancer, BalanceSettings, SetAside
from millrace.schemas.errors import (
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRefusedError,
)

POLICIES: tuple[BalancePolicy, ...] = (
    "round_robin",
    "weighted",
    "least_in_flight",
    "latency_aware",
)
BAD_KEY = RequestRefusedError("no", code="authentication_failed")


class Bench:
    """A balancer with a clock and a chance that a test sets."""

    def __init__(
        self,
        policy: BalancePolicy = "round_robin",
        names: tuple[str, ...] = ("a", "b", "c"),
        *,
        weights: dict[str, float] | None = None,
        draw: Callable[[], float] | None = None,
    ) -> None:
        self.now = 100.0
        self.balancer = Balancer(
            names=names,
            settings=BalanceSettings(policy=policy, weights=weights or {}),
            now=lambda: self.now,
            draw=draw or random.Random(1).random,
        )

    def choose(self) -> str:
        """Choose; something must be usable."""
        name = self.balancer.choose()
        assert name is not None
        return name

    def measure(self, name: str, seconds: float) -> None:
        """Let a call end whose first token took so long, at this one and no other."""
        others = {each for each in self.balancer.in_flight if each != name}
        for each in others:
            self.balancer.set_aside(each, seconds=1, reason="rate_limited")
        assert self.choose() == name
        self.balancer.give_back(name, seconds=seconds)
        for each in others:
            self.balancer.restore(each)

    def calls(self, count: int) -> list[str]:
        """Where so many calls go, one after the other."""
        found = []
        for _ in range(count):
            found.append(self.choose())
            self.balancer.give_back(found[-1])
        return found


def test_in_turn() -> None:
    """In the order given."""
    assert Bench().calls(7) == ["a", "b", "c", "a", "b", "c", "a"]


def test_in_turn_skips_what_is_set_aside() -> None:
    """And gives nobody a turn twice for it."""
    bench = Bench()
    bench.balancer.set_aside("b", seconds=10, reason="rate_limited")

    assert bench.calls(4) == ["a", "c", "a", "c"]


def test_weights_are_kept_and_spread_evenly() -> None:
    """Not first all of one and then all of the other."""
    bench = Bench("weighted", weights={"a": 5})

    assert bench.calls(7) == ["a", "a", "b", "a", "c", "a", "a"]


def test_the_fewest_calls_under_way() -> None:
    """In turn among equals."""
    bench = Bench("least_in_flight")
    assert [bench.choose() for _ in range(4)] == ["a", "b", "c", "a"]
    bench.balancer.give_back("b")

    assert bench.choose() == "b"
    assert bench.balancer.in_flight == {"a": 2, "b": 1, "c": 1}


def test_the_quicker_of_two_drawn() -> None:
    """The slowest of three is never the quicker one."""
    bench = Bench("latency_aware")
    for name, seconds in (("a", 0.1), ("b", 0.2), ("c", 5.0)):
        bench.measure(name, seconds)

    chosen = Counter(bench.calls(300))

    assert chosen["c"] == 0
    assert chosen["a"] > chosen["b"] > 50


def test_a_quick_one_with_many_calls_under_way_is_no_longer_quick() -> None:
    """Latency counts once for each call under way."""
    bench = Bench("latency_aware", ("a", "b"))
    for name, seconds in (("a", 1.0), ("b", 2.5)):
        bench.measure(name, seconds)

    assert [bench.choose() for _ in range(4)] == ["a", "a", "b", "a"]


def test_a_slow_one_gets_another_chance() -> None:
    """What was measured long ago fades."""
    bench = Bench("latency_aware", ("a", "b"))
    for name, seconds in (("a", 0.1), ("b", 5.0)):
        bench.measure(name, seconds)
    assert bench.calls(5) == ["a"] * 5

    for _ in range(60):
        bench.now += 1
        bench.measure("a", 0.1)

    assert bench.calls(1) == ["b"]


def test_a_peak_of_latency_is_believed_at_once_and_forgotten_slowly() -> None:
    """One that begins to stall loses its calls with the first slow reply."""
    bench = Bench("latency_aware", ("a", "b"))
    for name, seconds in (("a", 0.1), ("b", 0.5), ("a", 9.0), ("a", 0.1)):
        bench.measure(name, seconds)

    assert bench.calls(3) == ["b"] * 3


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (BAD_KEY, 600),
        (RateLimitedError("cap", retryable=False), 3600),
        (RateLimitedError("cap", retryable=False, retry_after=50), 50),
    ],
    ids=["refused", "spending cap", "spending cap with a time"],
)
def test_a_key_that_will_not_do_is_set_aside_and_comes_back(
    error: ProviderError, seconds: float
) -> None:
    """For as long as settings or the provider say."""
    bench = Bench()

    assert bench.balancer.note("b", error) == SetAside("b", 100 + seconds, error.code)
    assert bench.balancer.aside == (SetAside("b", 100 + seconds, error.code),)
    assert "b" not in bench.calls(6)
    bench.now += seconds
    assert bench.balancer.aside == ()
    assert "b" in bench.calls(3)


@pytest.mark.parametrize(
    "error",
    [RateLimitedError("slow"), ProviderUnavailableError("down"), RequestRefusedError("no")],
    ids=lambda error: error.code,
)
def test_what_is_not_the_keys_fault_sets_nothing_aside(error: ProviderError) -> None:
    """The rate limit and the circuit look after those."""
    bench = Bench()

    assert bench.balancer.note("a", error) is None
    assert bench.balancer.aside == ()


def test_a_key_is_reported_once() -> None:
    """Calls that were under way with it fail too; after its time it is news again."""
    bench = Bench()
    assert bench.balancer.note("a", BAD_KEY) is not None
    assert bench.balancer.note("a", BAD_KEY) is None
    bench.now += 600

    assert bench.balancer.note("a", BAD_KEY) is not None


@pytest.mark.parametrize("policy", POLICIES)
def test_with_all_set_aside_nobody_is_chosen(policy: BalancePolicy) -> None:
    """Until one comes back by hand or by time."""
    bench = Bench(policy)
    for name in "abc":
        bench.balancer.note(name, BAD_KEY)
    assert bench.balancer.choose() is None

    bench.balancer.restore("c")

    assert bench.calls(2) == ["c", "c"]


@pytest.mark.parametrize(
    ("names", "weights"),
    [((), {}), (("a", "a"), {}), (("a",), {"a": 0.0}), (("a",), {"a": float("inf")})],
)
def test_targets_that_make_no_sense_are_refused(
    names: tuple[str, ...], weights: dict[str, float]
) -> None:
    """At start, not at the first call."""
    with pytest.raises(ValueError, match=r"named|weight"):
        Bench("weighted", names, weights=weights)


@given(
    policy=st.sampled_from(POLICIES),
    steps=st.lists(
        st.tuples(
            st.sampled_from(("choose", "end", "aside", "wait")),
            st.integers(0, 9),
            st.floats(0, 30),
        ),
        max_size=60,
    ),
)
@settings(max_examples=80, deadline=None)
def test_what_is_set_aside_is_never_chosen_and_what_is_not_always_can_be(
    policy: BalancePolicy, steps: list[tuple[str, int, float]]
) -> None:
    """For any policy and history; and calls under way are counted right."""
    bench = Bench(policy)
    running: list[str] = []
    until: dict[str, float] = {}
    for what, pick, seconds in steps:
        match what:
            case "choose":
                usable = {name for name in "abc" if until.get(name, 0) <= bench.now}
                name = bench.balancer.choose()
                assert name in usable if usable else name is None
                running += [name] if name else []
            case "end" if running:
                name = running.pop(pick % len(running))
                bench.balancer.give_back(name, seconds=seconds if pick % 2 else None)
            case "aside":
                name = "abc"[pick % 3]
                bench.balancer.set_aside(name, seconds=seconds, reason="rate_limited")
                until[name] = bench.now + seconds
            case "wait":
                bench.now += seconds
        counted = Counter(running)
        assert bench.balancer.in_flight == {name: counted[name] for name in "abc"}


@given(weights=st.lists(st.integers(1, 10), min_size=2, max_size=5), rounds=st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_each_round_of_weights_is_exact(weights: list[int], rounds: int) -> None:
    """After as many calls as the weights sum up to, each has had its number."""
    names = tuple(f"n{index}" for index in range(len(weights)))
    wanted = dict(zip(names, weights, strict=True))
    bench = Bench("weighted", names, weights={name: float(w) for name, w in wanted.items()})

    chosen = Counter(bench.calls(rounds * sum(weights)))

    assert chosen == {name: rounds * weight for name, weight in wanted.items()}
