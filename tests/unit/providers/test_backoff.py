"""Whether a failed call is asked again, and when."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.backoff import Backoff, BackoffSettings, GiveUp, RetryHere, RetryLater
from millrace.schemas.errors import (
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    ReplyInvalidError,
    RequestRefusedError,
)

DOWN = ProviderUnavailableError("it is down")


def backoff(draw: float = 0.5, **fields: float) -> Backoff:
    """A backoff whose chance always comes out the same."""
    return Backoff(settings=BackoffSettings.model_validate(fields), draw=lambda: draw)


def decide(
    error: ProviderError = DOWN,
    *,
    tries: int = 1,
    begun: bool = False,
    remaining: float = 60.0,
    other: bool = False,
    by: Backoff | None = None,
) -> RetryHere | RetryLater | GiveUp:
    """What follows from a failure, with a minute left unless told."""
    return (by or backoff()).decide(
        error, tries=tries, begun=begun, remaining_seconds=remaining, other_candidate=other
    )


def test_the_wait_doubles_and_is_drawn_from_zero() -> None:
    """Full jitter: any wait up to the doubled base."""
    waits = [decide(tries=tries, by=backoff(draw=0.5)) for tries in (1, 2, 3)]

    assert waits == [RetryHere(0.125), RetryHere(0.25), RetryHere(0.5)]
    assert decide(by=backoff(draw=0.0)) == RetryHere(0.0)


@pytest.mark.parametrize(
    "error",
    [
        RequestRefusedError("no"),
        RequestRefusedError("no", code="authentication_failed"),
        RateLimitedError("quota is used up", retryable=False),
        ReplyInvalidError("nonsense"),
    ],
    ids=lambda error: error.code,
)
def test_what_asking_again_cannot_help_is_given_up(error: ProviderError) -> None:
    """Also a reply that makes no sense: another provider may do better, this one will not."""
    assert decide(error) == GiveUp("not_retryable")


@pytest.mark.parametrize("other", [False, True])
def test_another_key_is_tried_at_once(other: bool) -> None:
    """The model is not to blame, so no other one is asked for it, and nobody waits."""
    refused = RequestRefusedError("bad key", code="authentication_failed", retryable=True)
    refused.other_key = True

    assert decide(refused, other=other) == RetryHere(0.0)
    assert decide(refused, tries=4, other=other) == GiveUp("tries_used_up")
    assert decide(refused, begun=True) == GiveUp("reply_begun")


def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    """It was shown, and paid for."""
    assert decide(begun=True) == GiveUp("reply_begun")


def test_the_tries_are_counted() -> None:
    """The first one included."""
    by = backoff(max_tries=2)

    assert isinstance(decide(tries=1, by=by), RetryHere)
    assert decide(tries=2, by=by) == GiveUp("tries_used_up")


def test_a_provider_that_names_a_wait_is_obeyed() -> None:
    """On top of it comes a little chance, so that not all come back at the same moment."""
    assert decide(RateLimitedError("slow", retry_after=1.5)) == RetryHere(1.625)


def test_a_long_wait_goes_to_the_retries_topic() -> None:
    """From the inline limit on."""
    assert decide(RateLimitedError("slow", retry_after=30)) == RetryLater(30.125)


def test_a_long_wait_is_not_waited_for_where_another_candidate_can_begin() -> None:
    """A short one is, where the candidate in hand may be asked again."""
    long, short = RateLimitedError("slow", retry_after=30), RateLimitedError("slow", retry_after=1)
    by = backoff(tries_before_fallback=2)

    assert decide(long, other=True, by=by) == GiveUp("other_candidate")
    assert decide(short, other=True, by=by) == RetryHere(1.125)


def test_another_candidate_is_asked_after_fewer_tries() -> None:
    """At once, unless told otherwise; the last candidate has all of its tries."""
    by = backoff(tries_before_fallback=2)

    assert decide(other=True) == GiveUp("other_candidate")
    assert isinstance(decide(tries=1, other=True, by=by), RetryHere)
    assert decide(tries=2, other=True, by=by) == GiveUp("other_candidate")
    assert isinstance(decide(tries=2, by=by), RetryHere)


def test_a_wait_that_would_outlast_the_deadline_is_given_up() -> None:
    """Also one that ends with it: no time would be left to answer."""
    error = RateLimitedError("slow", retry_after=30)

    assert decide(error, remaining=30.125) == GiveUp("no_time")
    assert decide(error, remaining=30.2) == RetryLater(30.125)


def test_a_provider_that_is_away_for_long_is_given_up() -> None:
    """Whatever the deadline."""
    error = RateLimitedError("come tomorrow", retry_after=86_400)

    assert decide(error, remaining=1e9) == GiveUp("no_time")


@given(
    tries=st.integers(1, 10_000),
    draw=st.floats(0, 1, exclude_max=True),
    remaining=st.floats(-10, 1e5),
    retry_after=st.none() | st.floats(-1, 1e6),
    max_seconds=st.floats(0.01, 1e3),
)
@settings(max_examples=200, deadline=None)
def test_no_wait_reaches_the_deadline_or_undercuts_the_provider(
    tries: int,
    draw: float,
    remaining: float,
    retry_after: float | None,
    max_seconds: float,
) -> None:
    """For any failure, chance and number of tries."""
    by = backoff(draw=draw, max_tries=10_000, tries_before_fallback=10_001, max_seconds=max_seconds)
    error = RateLimitedError("slow", retry_after=retry_after)

    verdict = decide(error, tries=tries, remaining=remaining, by=by)

    if isinstance(verdict, GiveUp):
        return
    assert 0 <= verdict.seconds < remaining
    assert verdict.seconds >= (retry_after or 0)
    assert isinstance(verdict, RetryHere) == (verdict.seconds <= by.settings.max_inline_seconds)
    if retry_after is None:
        assert verdict.seconds <= max_seconds
    elsewhere = decide(error, tries=tries, remaining=remaining, other=True, by=by)
    assert elsewhere == (GiveUp("other_candidate") if isinstance(verdict, RetryLater) else verdict)
