"""When a model is left alone, and how it comes back."""

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from millrace.providers.circuit import (
    Circuit,
    Circuits,
    CircuitSettings,
    CircuitState,
    Ending,
    Permit,
    ending,
)
from millrace.providers.error_window import ErrorWindow
from millrace.schemas.errors import (
    ErrorCode,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    ReplyInvalidError,
    RequestRefusedError,
)


class Bench:
    """A circuit with a clock that a test sets, and what it said of its changes."""

    def __init__(self, **fields: float) -> None:
        self.now = 1000.0
        self.changes: list[CircuitState] = []
        self.circuit = Circuit(
            settings=CircuitSettings.model_validate(fields),
            now=lambda: self.now,
            on_change=self.changes.append,
        )

    def call(self, how: Ending) -> bool:
        """Make a call that ends like this, if one may be made."""
        permit = self.circuit.begin()
        if permit is not None:
            self.circuit.end(permit, how)
        return permit is not None

    def calls(self, *how: Ending) -> None:
        """Make these calls; each must be let through."""
        for each in how:
            assert self.call(each)

    def open(self) -> None:
        """Let as many calls fail as it takes."""
        while self.circuit.state != "open":
            assert self.call("failed")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, "answered"),
        (ProviderUnavailableError("down"), "failed"),
        (ProviderUnavailableError("late", code="provider_timeout"), "failed"),
        (ProviderUnavailableError("cut", code="stream_truncated"), "failed"),
        (ReplyInvalidError("nonsense"), "failed"),
        (RequestRefusedError("no"), "answered"),
        (RequestRefusedError("no", code="context_length_exceeded"), "answered"),
        (RequestRefusedError("no", code="content_filtered"), "answered"),
        (RequestRefusedError("no", code="authentication_failed"), "unknown"),
        (RequestRefusedError("no", code="model_not_found"), "unknown"),
        (RateLimitedError("slow"), "unknown"),
    ],
    ids=lambda value: value.code if isinstance(value, ProviderError) else str(value),
)
def test_only_the_providers_own_failures_count(
    error: ProviderError | None, expected: Ending
) -> None:
    """A request that it refuses shows that it is well; a limit or a wrong key shows nothing."""
    assert ending(error) == expected


def test_failures_in_a_row_open_it() -> None:
    """Not one earlier."""
    bench = Bench(consecutive_failures=3)
    bench.calls("failed", "failed")
    assert bench.circuit.state == "closed"

    bench.calls("failed")

    assert bench.circuit.state == "open"
    assert not bench.call("answered")
    assert bench.changes == ["open"]


def test_an_answer_breaks_the_row_and_an_unknown_end_does_not() -> None:
    """A call that we broke off ourselves says nothing."""
    bench = Bench(consecutive_failures=3, minimum_calls=100)
    bench.calls("failed", "failed", "answered", "failed", "failed", "unknown")
    assert bench.circuit.state == "closed"

    bench.calls("failed")

    assert bench.circuit.state == "open"


def test_an_error_rate_opens_it_once_there_are_enough_calls() -> None:
    """Half of ten, mixed so that no row is long."""
    bench = Bench(consecutive_failures=100, error_rate=0.5, minimum_calls=10)
    bench.calls(*(["answered", "failed"] * 4), "answered")
    assert bench.circuit.error_rate == pytest.approx(4 / 9)

    bench.calls("failed")

    assert bench.circuit.state == "open"


def test_failures_outside_the_window_are_forgotten() -> None:
    """Ten failures an hour ago and one now are one."""
    bench = Bench(consecutive_failures=100, error_rate=0.5, minimum_calls=10, window_seconds=30)
    bench.calls(*["failed"] * 9)
    bench.now += 31

    bench.calls("failed")

    assert bench.circuit.state == "closed"
    assert bench.circuit.error_rate == 1.0


def test_probes_go_through_after_a_while_and_close_it() -> None:
    """As many at once as are allowed, and no more."""
    bench = Bench(open_seconds=10, probes=2)
    bench.open()
    assert bench.circuit.retry_after == 10
    bench.now += 10
    assert (bench.circuit.state, bench.circuit.retry_after) == ("half_open", 0)

    first, second, third = (bench.circuit.begin() for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is None
    bench.circuit.end(first, "answered")
    assert bench.circuit.state == "half_open"
    bench.circuit.end(second, "answered")

    assert bench.circuit.state == "closed"
    assert bench.circuit.error_rate == 0
    assert bench.changes == ["open", "half_open", "closed"]


def test_a_probe_that_fails_opens_it_for_twice_as_long() -> None:
    """Up to the longest time."""
    bench = Bench(open_seconds=10, max_open_seconds=35)
    bench.open()
    waits = []
    for _ in range(4):
        bench.now += bench.circuit.retry_after
        bench.calls("failed")
        waits.append(bench.circuit.retry_after)

    assert waits == [20, 35, 35, 35]


def test_a_circuit_that_flaps_stays_open_longer_each_time() -> None:
    """Closing for a moment does not start the waits again; a quiet window does."""
    bench = Bench(open_seconds=10, window_seconds=30, consecutive_failures=1, probes=1)
    bench.open()
    bench.now += 10
    bench.calls("failed")
    bench.now += 20
    bench.calls("answered", "failed")
    assert bench.circuit.retry_after == 20

    bench.now += 20
    bench.calls("answered")
    bench.now += 30
    bench.calls("answered", "failed")

    assert bench.circuit.retry_after == 10


def test_a_probe_that_tells_nothing_leaves_its_place_to_another() -> None:
    """So a cancelled probe cannot keep it half-open for ever."""
    bench = Bench(probes=1)
    bench.open()
    bench.now += 1000
    bench.calls("unknown", "unknown", "answered")

    assert bench.circuit.state == "closed"


def test_a_call_from_before_a_change_tells_nothing_of_the_time_after() -> None:
    """Slow failures must not open a circuit that has closed, nor slow answers close one."""
    bench = Bench(consecutive_failures=1, probes=1)
    late = [bench.circuit.begin() for _ in range(3)]
    bench.open()
    bench.now += 1000
    assert bench.circuit.state == "half_open"
    for permit, how in zip(late, ("answered", "failed", "unknown"), strict=True):
        assert permit is not None
        bench.circuit.end(permit, how)
    assert bench.circuit.state == "half_open"

    bench.calls("answered")

    assert bench.circuit.state == "closed"


def test_each_model_has_a_circuit_of_its_own() -> None:
    """The failure of one leaves the other alone, and changes say which it was."""
    changes: list[tuple[str, CircuitState]] = []
    circuits = Circuits(
        settings=CircuitSettings(consecutive_failures=1),
        now=lambda: 0.0,
        on_change=lambda model, state: changes.append((model, state)),
    )
    permit = circuits.of("a").begin()
    assert permit is not None
    circuits.of("a").end(permit, "failed")

    assert {model: circuit.state for model, circuit in circuits.items()} == {"a": "open"}
    assert circuits.of("b").state == "closed"
    assert changes == [("a", "open")]


class Flapping(RuleBasedStateMachine):
    """Any interleaving of calls, their ends, and time, against what the settings promise."""

    @initialize(
        failures=st.integers(1, 4),
        rate=st.sampled_from((0.3, 0.5, 1.0)),
        minimum=st.integers(1, 6),
        probes=st.integers(1, 3),
    )
    def begin_closed(self, failures: int, rate: float, minimum: int, probes: int) -> None:
        self.bench = Bench(
            consecutive_failures=failures, error_rate=rate, minimum_calls=minimum,
            probes=probes, window_seconds=20, open_seconds=5, max_open_seconds=40,
        )  # fmt: skip
        self.probes = probes
        self.running: list[tuple[Permit, CircuitState]] = []
        self.opened_at: float | None = None

    @rule()
    def begin(self) -> None:
        state = self.bench.circuit.state
        probing = sum(
            permit.probe and permit.generation == self.bench.circuit._generation
            for permit, _ in self.running
        )
        permit = self.bench.circuit.begin()
        allowed = {"closed": True, "open": False, "half_open": probing < self.probes}
        assert (permit is not None) == allowed[state]
        if permit is not None:
            self.running.append((permit, state))

    @rule(pick=st.integers(0, 50), how=st.sampled_from(("answered", "failed", "unknown")))
    def end(self, pick: int, how: Ending) -> None:
        if not self.running:
            return
        permit, _ = self.running.pop(pick % len(self.running))
        before, generation = self.bench.circuit.state, self.bench.circuit._generation
        self.bench.circuit.end(permit, how)
        after = self.bench.circuit.state
        if permit.generation != generation:
            assert after == before
        elif before == "half_open" and how == "failed":
            assert after == "open"
        elif how != "failed":
            assert after != "open"

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds

    @invariant()
    def it_opens_only_for_so_long(self) -> None:
        circuit = self.bench.circuit
        wait = circuit.retry_after
        assert 0 <= wait <= 40
        assert (wait > 0) == (circuit.state == "open")

    @invariant()
    def changes_go_round_in_order(self) -> None:
        follows = {"open": {"closed", "half_open"}, "half_open": {"open"}, "closed": {"half_open"}}
        states = ["closed", *self.bench.changes]
        assert all(before in follows[after] for before, after in pairwise(states))

    def teardown(self) -> None:
        """Whatever happened, a provider that is well again is used again."""
        if not hasattr(self, "bench"):
            return
        for permit, _ in self.running:
            self.bench.circuit.end(permit, "unknown")
        self.bench.now += 1000
        self.bench.calls(*["answered"] * self.probes)
        assert self.bench.circuit.state == "closed"


TestFlapping = Flapping.TestCase
TestFlapping.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class CountedCalls(RuleBasedStateMachine):
    """The window against a plain list of what ended when."""

    def __init__(self) -> None:
        super().__init__()
        self.window = ErrorWindow(seconds=10)
        self.now = 500.0
        self.ended: deque[tuple[float, bool]] = deque()

    @rule(failed=st.booleans(), times=st.integers(1, 5))
    def add(self, failed: bool, times: int) -> None:
        for _ in range(times):
            self.window.add(self.now, failed=failed)
            self.ended.append((self.now, failed))

    @rule(tenths=st.integers(0, 130))
    def wait(self, tenths: int) -> None:
        self.now += tenths / 10

    @invariant()
    def it_counts_the_slots_of_the_window(self) -> None:
        """Slots are a second long, and the current one is the tenth."""
        lately = [failed for at, failed in self.ended if at // 1.0 > self.now // 1.0 - 10]
        assert self.window.counts(self.now) == (len(lately), sum(lately))


TestCountedCalls = CountedCalls.TestCase
TestCountedCalls.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_the_codes_that_count_are_codes() -> None:
    """Every code leads to one of the three endings."""
    codes: tuple[ErrorCode, ...] = ("provider_unavailable", "cancelled", "internal_error")

    assert [ending(ProviderError("x", code=code)) for code in codes] == [
        "failed",
        "unknown",
        "unknown",
    ]
