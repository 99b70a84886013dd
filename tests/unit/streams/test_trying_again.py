"""The attempt that follows a failed one at the same model."""

from decimal import Decimal
from typing import Literal

import pytest
from pipeline_records import at, make_call, make_job

from millrace.schemas.call import AttemptSummary
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.usage import Timing, Usage
from millrace.streams.books import Spent
from millrace.streams.budget_gate import settlements
from millrace.streams.trying_again import again, tries

ERROR = ErrorInfo(code="rate_limited", message="slow down", retryable=True)
RESULT = Spent(
    status="failed",
    usage=Usage(),
    cost_usd=Decimal(0),
    cost_source="price_table",
    timing=Timing(),
    finished_at=at(1),
)


def test_what_budgets_hold_for_a_call_stays_held_for_its_repetitions() -> None:
    """However often it is tried, they hear of it under the attempt that they granted."""
    granted = make_call(make_job()).model_copy(update={"budgets": ("all",)})

    third = again(again(granted, RESULT, ERROR), RESULT, ERROR)
    (told,) = settlements(third.budgets, third, invocation="i", usd=Decimal(1), tokens=5)

    assert third.attempt == granted.attempt + 2
    assert (told.budget, told.claim_id) == ("all", granted.attempt_id)


def test_the_next_candidate_asks_the_budgets_anew() -> None:
    """Its price is another."""
    granted = make_call(make_job()).model_copy(update={"budgets": ("all",)})
    repeated = again(granted, RESULT, ERROR)

    elsewhere = repeated.following(candidate=0, failed=repeated.history[0])

    assert (elsewhere.budgets, elsewhere.claimed_as) == ((), None)


def test_without_budgets_nothing_is_added() -> None:
    """The call is as small as before."""
    repeated = again(make_call(make_job()), RESULT, ERROR)

    assert (repeated.budgets, repeated.claimed_as) == ((), None)
    assert [each.error for each in repeated.history] == [ERROR]


@pytest.mark.parametrize(
    ("status", "code"),
    [("completed", None), ("failed", "output_invalid"), ("failed", "empty_reply")],
)
def test_a_model_that_has_answered_has_its_tries_anew(
    status: Literal["completed", "failed"], code: Literal["output_invalid", "empty_reply"] | None
) -> None:
    """It is asked something else: to mend its answer, or to rate it."""
    call = make_call(make_job())
    answered = AttemptSummary(
        attempt=1,
        provider=call.target.provider,
        model=call.target.model,
        status=status,
        error=ErrorInfo(code=code, message="no") if code else None,
    )
    following = call.following(candidate=0, failed=answered)

    assert tries(following) == 1
    assert tries(again(following, RESULT, ERROR)) == 2
