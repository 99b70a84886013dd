"""Requests and tokens a minute, shared among processes."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.rate_headers import Allowance, Allowances, read_allowances
from millrace.providers.rate_limit import RateLimiter, RateLimits, Reservation

_NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
_ROUNDING = 1e-6
_MODEL = "m"


class Bench:
    """A limiter with a clock that a test sets."""

    def __init__(self, *, share: float = 1.0, **limits: float | None) -> None:
        self.now = 100.0
        self.limiter = RateLimiter(
            limits=RateLimits.model_validate(limits), now=lambda: self.now, share=share
        )

    def begin_after_its_delay(self, tokens: int) -> Reservation:
        """Wait as long as is asked, and not more, then begin."""
        self.now += self.limiter.delay(_MODEL, tokens)
        return self.limiter.reserve(_MODEL, tokens)

    def starts(self, count: int, tokens: int = 1) -> list[float]:
        """When so many calls begin that come at once, from now on."""
        start = self.now
        found = []
        for _ in range(count):
            self.begin_after_its_delay(tokens)
            found.append(round(self.now - start, 6))
        return found


def test_without_limits_nothing_waits() -> None:
    """However much is asked."""
    bench = Bench()

    assert bench.starts(100, tokens=1_000_000) == [0.0] * 100


def test_requests_go_a_burst_at_once_and_then_evenly() -> None:
    """120 a minute with two seconds' worth at once."""
    bench = Bench(requests_per_minute=120, burst_seconds=2)

    assert bench.starts(7) == [0, 0, 0, 0, 0.5, 1.0, 1.5]


def test_tokens_wait_for_as_many_as_are_asked_for() -> None:
    """600 a minute are ten a second."""
    bench = Bench(tokens_per_minute=600, burst_seconds=3)

    assert bench.starts(3, tokens=15) == [0, 0, 1.5]


def test_a_call_larger_than_a_burst_is_let_through_and_paid_for_after() -> None:
    """Else it could never begin."""
    bench = Bench(tokens_per_minute=600, burst_seconds=1)

    assert bench.starts(2, tokens=100) == [0, 10.0]


def test_reserving_before_its_time_is_refused() -> None:
    """Nobody can pass a limit by mistake."""
    bench = Bench(requests_per_minute=60)
    bench.limiter.reserve(_MODEL, 1)

    with pytest.raises(ValueError, match=r"only in 1\.000 s"):
        bench.limiter.reserve(_MODEL, 1)


def test_what_was_reserved_too_much_is_given_back() -> None:
    """And what was reserved too little is owed."""
    bench = Bench(tokens_per_minute=600, burst_seconds=10)
    bench.limiter.settle(bench.limiter.reserve(_MODEL, 100), 40)
    assert bench.limiter.delay(_MODEL, 60) == 0

    bench.limiter.settle(bench.limiter.reserve(_MODEL, 50), 150)

    assert bench.limiter.delay(_MODEL, 10) == pytest.approx(10.0)


def test_what_is_given_back_late_makes_no_larger_burst() -> None:
    """A full bucket takes nothing more."""
    bench = Bench(tokens_per_minute=600, burst_seconds=10)
    reservation = bench.limiter.reserve(_MODEL, 100)
    bench.now += 100
    bench.limiter.settle(reservation, 0)

    assert bench.starts(2, tokens=100) == [0, 10.0]


def test_a_call_that_was_never_sent_leaves_no_trace() -> None:
    """Neither of its request nor of its tokens."""
    bench = Bench(requests_per_minute=60, tokens_per_minute=600)
    bench.limiter.release(bench.limiter.reserve(_MODEL, 10))

    assert bench.limiter.delay(_MODEL, 10) == 0


def test_a_share_gets_its_part() -> None:
    """Half of the partitions, half of the speed."""
    bench = Bench(requests_per_minute=120, burst_seconds=2, share=0.5)

    assert bench.starts(4) == [0, 0, 1.0, 2.0]


def test_no_partitions_no_calls() -> None:
    """Until some come; what was not used meanwhile is not saved up."""
    bench = Bench(requests_per_minute=60, burst_seconds=5, share=0)
    assert bench.limiter.delay(_MODEL, 1) == math.inf
    bench.now += 1000

    bench.limiter.share = 1.0

    assert bench.limiter.delay(_MODEL, 1) == pytest.approx(1.0)


def test_what_a_smaller_share_cannot_hold_is_lost() -> None:
    """Else it could be used in one burst when the share grows again."""
    bench = Bench(requests_per_minute=60, burst_seconds=10)
    bench.limiter.share = 0.2
    bench.limiter.share = 1.0

    assert bench.starts(3) == [0, 0, 1.0]


def test_without_a_share_nothing_begins_even_without_limits() -> None:
    """A process without partitions has no calls to make."""
    assert Bench(share=0).limiter.delay(_MODEL, 1) == math.inf


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_is_a_fraction(share: float) -> None:
    """Anything else is a mistake of the caller's."""
    bench = Bench()
    with pytest.raises(ValueError, match="from 0 to 1"):
        bench.limiter.share = share


def test_a_refusal_stops_everything_until_then() -> None:
    """The last moment that was named counts."""
    bench = Bench()
    first, second = bench.limiter.reserve(_MODEL, 1), bench.limiter.reserve(_MODEL, 1)
    bench.limiter.refused(first, 20)
    bench.limiter.refused(second, 5)
    assert bench.limiter.delay(_MODEL, 1) == 20
    bench.now += 20

    assert bench.limiter.delay(_MODEL, 1) == 0


def test_refusals_without_a_time_pause_longer_each_time() -> None:
    """Many at once are one; an answer begins anew."""
    bench = Bench()
    waits = []
    for _ in range(3):
        together = [bench.limiter.reserve(_MODEL, 1) for _ in range(5)]
        for each in together:
            bench.limiter.refused(each, None)
        waits.append(bench.limiter.delay(_MODEL, 1))
        bench.now += waits[-1]
    assert waits == [1, 2, 4]

    bench.limiter.settle(bench.limiter.reserve(_MODEL, 1), 1)
    bench.limiter.refused(bench.limiter.reserve(_MODEL, 1), None)

    assert bench.limiter.delay(_MODEL, 1) == 1


def test_a_refused_call_gives_its_tokens_back() -> None:
    """Its request was made all the same."""
    bench = Bench(requests_per_minute=6000, tokens_per_minute=600, burst_seconds=10)
    bench.limiter.refused(bench.limiter.reserve(_MODEL, 100), 0)

    assert bench.limiter.delay(_MODEL, 100) == 0


def told(remaining: float, limit: float | None, reset: float) -> Allowances:
    """What headers say of requests."""
    return Allowances(requests=Allowance(remaining, limit, reset))


def test_what_the_provider_says_is_left_makes_it_stricter() -> None:
    """Two are left of sixty, which come back one a second."""
    bench = Bench(requests_per_minute=6000, burst_seconds=60)
    bench.limiter.observe(bench.limiter.reserve(_MODEL, 1), told(2, 60, 58))

    assert bench.starts(4) == [0, 0, 1.0, 2.0]


def test_what_the_provider_says_never_makes_it_looser() -> None:
    """Our own limit may be lower on purpose."""
    bench = Bench(requests_per_minute=60)
    bench.limiter.observe(bench.limiter.reserve(_MODEL, 1), told(900, 1000, 6))

    assert bench.limiter.delay(_MODEL, 1) == pytest.approx(1.0)


def test_a_process_takes_only_its_share_of_what_is_left() -> None:
    """The others read the same headers."""
    bench = Bench(share=0.5)
    bench.limiter.observe(bench.limiter.reserve(_MODEL, 1), told(4, 64, 60))

    assert bench.starts(4) == [0, 0, 2.0, 4.0]


def test_calls_under_way_are_taken_off_what_is_left() -> None:
    """They may have come too late to be counted."""
    bench = Bench()
    first = bench.limiter.reserve(_MODEL, 1)
    others = [bench.limiter.reserve(_MODEL, 1) for _ in range(3)]

    bench.limiter.observe(first, told(3, 63, 60))

    assert bench.limiter.delay(_MODEL, 1) == pytest.approx(1.0)
    bench.limiter.observe(others[0], told(3, 63, 60))
    assert bench.limiter.delay(_MODEL, 1) == 0


def test_nothing_left_of_an_unknown_limit_is_minded_until_its_reset() -> None:
    """Then all is well until the next reply says otherwise."""
    bench = Bench()
    bench.limiter.observe(bench.limiter.reserve(_MODEL, 1), told(0, None, 7))
    assert bench.limiter.delay(_MODEL, 1) == 7
    bench.now += 7

    assert bench.starts(5) == [0] * 5


def test_tokens_that_are_left_are_minded_too() -> None:
    """A small call may begin where a large one has to wait."""
    bench = Bench()
    left = Allowances(tokens=Allowance(500, 1000, 50))
    bench.limiter.observe(bench.limiter.reserve(_MODEL, 10), left)

    assert bench.limiter.delay(_MODEL, 500) == 0
    assert bench.limiter.delay(_MODEL, 600) == pytest.approx(10.0)


@given(
    calls=st.lists(st.tuples(st.integers(1, 300), st.floats(0, 5)), min_size=1, max_size=60),
    requests=st.integers(1, 600),
    tokens=st.integers(60, 6000),
    burst=st.floats(0.1, 60),
    share=st.floats(0.05, 1),
)
@settings(max_examples=80, deadline=None)
def test_in_no_span_does_more_begin_than_the_rate_and_a_burst(
    calls: list[tuple[int, float]], requests: int, tokens: int, burst: float, share: float
) -> None:
    """For any calls and pauses, between any two of them, for requests and tokens."""
    bench = Bench(
        requests_per_minute=requests, tokens_per_minute=tokens, burst_seconds=burst, share=share
    )
    begun: list[tuple[float, int]] = []
    for amount, pause in calls:
        bench.now += pause
        bench.begin_after_its_delay(amount)
        begun.append((bench.now, amount))

    most_requests = max(1, requests / 60 * burst * share)
    most_tokens = max(1, tokens / 60 * burst * share, *(amount for amount, _ in calls))
    for first, (start, _) in enumerate(begun):
        total = 0
        for number, (at, amount) in enumerate(begun[first:], 1):
            total += amount
            span = (at - start) * share / 60
            assert number <= most_requests + requests * span + _ROUNDING
            assert total <= most_tokens + tokens * span + _ROUNDING * total


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 200), st.integers(0, 400), st.floats(0, 3)),
        min_size=1,
        max_size=60,
    )
)
@settings(max_examples=80, deadline=None)
def test_corrected_tokens_keep_to_the_rate_in_the_long_run(
    steps: list[tuple[int, int, float]],
) -> None:
    """Whatever was estimated: only the last call's own mistake and a burst come on top."""
    bench = Bench(tokens_per_minute=600, burst_seconds=6)
    start, used, worst = bench.now, 0, 0
    for estimate, actual, pause in steps:
        bench.now += pause
        bench.limiter.settle(bench.begin_after_its_delay(estimate), actual)
        used += actual
        worst = max(worst, estimate, actual)

        assert used <= 60 + worst + 10 * (bench.now - start) + _ROUNDING * used


@given(
    moves=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.floats(0, 4)), min_size=1, max_size=25
    )
)
@settings(max_examples=60, deadline=None)
def test_processes_together_keep_to_the_limit_while_partitions_move(
    moves: list[tuple[int, int, float]],
) -> None:
    """Each as greedy as it may be; six partitions go to and fro between two of them.

    Each process may always have one call at once, however small its share.
    """
    now = 0.0
    limits = RateLimits(requests_per_minute=120, burst_seconds=3)
    both = [RateLimiter(limits=limits, now=lambda: now, share=0.5) for _ in range(2)]
    begun = 0
    for held, tenths, pause in moves:
        for limiter in both:
            limiter.share = 0.0  # a rebalance: everything is given up first
        for limiter, share in zip(both, (held / 6, 1 - held / 6), strict=True):
            limiter.share = share
        for _ in range(tenths):
            now += pause / 10
            for limiter in both:
                while limiter.delay(_MODEL, 1) == 0:
                    limiter.reserve(_MODEL, 1)
                    begun += 1

        assert begun <= 6 + 2 + 2 * now + _ROUNDING


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Allowances()),
        (
            {
                "x-ratelimit-limit-requests": "500",
                "x-ratelimit-remaining-requests": "499",
                "x-ratelimit-reset-requests": "120ms",
                "x-ratelimit-limit-tokens": "30000",
                "x-ratelimit-remaining-tokens": "29000",
                "x-ratelimit-reset-tokens": "1m2s",
            },
            Allowances(Allowance(499, 500, 0.12), Allowance(29000, 30000, 62)),
        ),
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2026-05-01T12:00:02Z",
                "anthropic-ratelimit-input-tokens-limit": "40000",
                "anthropic-ratelimit-input-tokens-remaining": "39000",
                "anthropic-ratelimit-input-tokens-reset": "2026-05-01T12:00:03Z",
                "anthropic-ratelimit-output-tokens-limit": "8000",
                "anthropic-ratelimit-output-tokens-remaining": "7000",
                "anthropic-ratelimit-output-tokens-reset": "2026-05-01T12:00:08Z",
            },
            Allowances(Allowance(49, 50, 2), Allowance(7000, 8000, 8)),
        ),
        (
            {"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "9s"},
            Allowances(Allowance(3, None, 9)),
        ),
        ({"x-ratelimit-remaining-requests": "3"}, Allowances()),
        (
            {"x-ratelimit-remaining-requests": "-3", "x-ratelimit-reset-requests": "9s"},
            Allowances(),
        ),
        (
            {"x-ratelimit-remaining-tokens": "3", "x-ratelimit-reset-tokens": "soon"},
            Allowances(),
        ),
    ],
    ids=["none", "openai", "anthropic", "no limit", "no reset", "negative", "unreadable"],
)
def test_headers_say_what_is_left(headers: dict[str, str], expected: Allowances) -> None:
    """As the vendors document them; what cannot be read is as if it were not there."""
    assert read_allowances(headers, now=_NOW) == expected
