"""Which budgets a call counts against, and which budgets may be set."""

from decimal import Decimal
from typing import Any

import pytest
from pipeline_records import make_call, make_job
from pydantic import ValidationError

from millrace.agents.budget_policy import Budget, BudgetPolicy


def covered(*, job: dict[str, Any] | None = None, **scope: Any) -> bool:
    """Whether a budget of that scope covers a call to p00/m0."""
    return Budget(name="b", usd=1, **scope).covers(make_call(make_job(**(job or {}))))


def test_a_budget_that_names_nothing_covers_all_calls() -> None:
    """It is the global limit."""
    assert covered()


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"provider": "p00"}, True),
        ({"provider": "p0*"}, True),
        ({"provider": "p1*"}, False),
        ({"model": "m0"}, True),
        ({"model": "M0"}, False),
        ({"task": "general"}, True),
        ({"task": "code_review"}, False),
        ({"task": "general", "model": "m1"}, False),
        ({"task": "general", "model": "m0", "provider": "p00"}, True),
    ],
)
def test_everything_a_budget_names_must_fit(scope: dict[str, Any], expected: bool) -> None:
    """By the call's task, provider and model; names may be patterns."""
    assert covered(**scope) is expected


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ({"team": "payments"}, True),
        ({"team": "search", "budget_key": "payments"}, True),
        ({"team": "payments", "budget_key": "search"}, False),
        ({}, False),
    ],
)
def test_a_team_pays_unless_the_request_names_another_payer(
    job: dict[str, Any], expected: bool
) -> None:
    """The budget key goes before the team; a call that nobody pays for is no team's."""
    assert covered(job=job, team="payments") is expected


def test_budgets_are_asked_in_the_order_of_their_names() -> None:
    """Whatever the order in the config."""
    policy = BudgetPolicy.model_validate(
        [
            {"name": "z", "usd": 1},
            {"name": "other", "usd": 1, "team": "other"},
            {"name": "a", "tokens": 1},
        ]
    )

    assert policy.covering(make_call()) == ("a", "z")
    assert [budget.name for budget in policy.budgets()] == ["z", "other", "a"]


def test_a_budget_is_found_by_its_name() -> None:
    """Or is none any more."""
    budget = Budget(name="a", usd=1)
    policy = BudgetPolicy((budget,))

    assert policy.named("a") == budget
    assert policy.named("b") is None


def test_amounts_and_shares_are_read_exactly() -> None:
    """As the config file writes them; shares in order, each once."""
    budget = Budget.model_validate({"name": "a", "usd": 0.1, "alerts": [0.9, 0.1, 0.9]})

    assert budget.usd == Decimal("0.1")
    assert budget.alerts == (Decimal("0.1"), Decimal("0.9"))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([{"name": "a"}], "budget 'a' limits nothing: set usd, tokens or both"),
        ([{"name": "a", "usd": 1}, {"name": "a", "usd": 2}], "more than one budget is named 'a'"),
        ([{"name": "a/b", "usd": 1}], "should match pattern"),
        ([{"name": "a", "usd": -1}], "greater than or equal to 0"),
        ([{"name": "a", "usd": 1, "alerts": [0]}], "greater than 0"),
        ([{"name": "a", "usd": 1, "window": "week"}], "'day' or 'month'"),
        ([{"name": "a", "usd": 1, "teams": "x"}], "Extra inputs"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(given: list[Any], problem: str) -> None:
    """With what is wrong."""
    with pytest.raises(ValidationError, match=problem):
        BudgetPolicy.model_validate(given)
