"""How the state of things reorders what fits, in every kind of plan."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from millrace.agents.health import ModelHealth
from millrace.agents.heed_health import ordered_by_health
from millrace.agents.offers import Offer
from millrace.agents.plan_route import PlanRoute
from millrace.agents.policy import RoutePolicy
from millrace.schemas.call import Job, Plan
from millrace.schemas.message import Message
from millrace.schemas.request import Route

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DOWN = ModelHealth(usable=False)
OFFERS = (
    Offer(provider="gpu", model="small", hardware="gpu", quality=40),
    Offer(
        provider="a", model="mid", quality=60,
        input_usd_per_million=Decimal(1), output_usd_per_million=Decimal(1),
    ),
    Offer(
        provider="b", model="mid2", quality=60,
        input_usd_per_million=Decimal(2), output_usd_per_million=Decimal(2),
    ),
    Offer(
        provider="a", model="top", quality=90,
        input_usd_per_million=Decimal(9), output_usd_per_million=Decimal(9),
    ),
)  # fmt: skip


def plan(route: Route, health: Mapping[str, ModelHealth], **section: object) -> Plan:
    """A plan while models are doing like this; others are not spoken of."""
    planner = PlanRoute(
        offers=OFFERS,
        policy=RoutePolicy.model_validate({"default": section}),
        count_tokens=lambda _: 100,
        health=lambda provider, model: health.get(f"{provider}/{model}"),
    )
    work = Job(
        request_id="r",
        task="general",
        messages=(Message(role="user", content="x"),),
        accepted_at=NOW,
        deadline=NOW,
    )
    return planner.plan(work, route)


def first(planned: Plan) -> list[str]:
    """Whom each member asks first."""
    return [member.candidates[0].model for member in planned.members]


def models(planned: Plan) -> list[str]:
    """The first member's models."""
    return [each.model for each in planned.members[0].candidates]


def test_what_is_down_is_asked_last_and_the_plan_says_so() -> None:
    """Nothing is dropped while there is room."""
    planned = plan(Route(), {"a/top": DOWN})

    assert models(planned) == ["mid", "mid2", "small", "top"]
    assert any(reason.startswith("a/top put back: ") for reason in planned.reasons)


def test_what_is_down_and_not_asked_is_passed_over() -> None:
    """With the reason."""
    planned = plan(Route(), {"a/top": DOWN}, max_candidates=2)

    assert models(planned) == ["mid", "mid2"]
    [over] = planned.passed_over
    assert (over.model, over.reason.startswith("put back: ")) == ("top", True)


def test_members_of_an_ensemble_begin_with_what_is_well() -> None:
    """Each with the best of its provider that can be reached."""
    route = Route(strategy="ensemble", members=2)

    assert first(plan(route, {})) == ["top", "mid2"]
    assert first(plan(route, {"b/mid2": DOWN})) == ["top", "small"]


def test_members_are_dealt_from_all_that_fit_when_the_first_are_down() -> None:
    """Those behind the ones that were looked at follow, in their order."""
    many = tuple(
        Offer(provider=provider, model=f"{provider}{number:02}")
        for provider in ("p", "q")
        for number in range(40)
    )
    planner = PlanRoute(
        offers=many,
        policy=RoutePolicy.model_validate({"default": {"max_candidates": 16}}),
        count_tokens=lambda _: 1,
        health=lambda _, model: DOWN if model == "p00" else None,
    )
    work = Job(
        request_id="r", task="general", messages=(Message(role="user", content="x"),),
        accepted_at=NOW, deadline=NOW,
    )  # fmt: skip

    planned = planner.plan(work, Route(strategy="ensemble", members=4))

    assert first(planned) == ["p01", "q00", "p02", "q01"]
    asked = [each.model for member in planned.members for each in member.candidates]
    assert len(asked) == len(set(asked)) == 64


def test_a_judge_is_one_that_can_be_reached() -> None:
    """The best of those that are well."""
    route = Route(strategy="ensemble", mode="merge", members=2)

    assert first(plan(route, {}))[-1] == "top"
    assert first(plan(route, {"a/top": DOWN}))[-1] == "mid"


def test_tiers_keep_their_order_whatever_is_down() -> None:
    """A dearer tier never comes before a cheaper one; within a tier the healthy come first."""
    route = Route(strategy="cascade")
    planned = plan(route, {"a/mid": DOWN, "gpu/small": DOWN})

    assert [(each.model, each.tier) for each in planned.members[0].candidates] == [
        ("small", 0),
        ("mid2", 1),
        ("mid", 1),
        ("top", 2),
    ]


@pytest.mark.parametrize(("lag", "expected"), [(150, "small"), (250, "top")])
def test_the_operators_bound_decides_when_local_work_spills_over(lag: int, expected: str) -> None:
    """Up to it, a queue is no reason to go elsewhere; one that is down still is."""
    route = Route(strategy="local_first")

    planned = plan(route, {"gpu/small": ModelHealth(lag=lag)}, max_local_lag=200)
    assert models(planned)[0] == expected
    assert models(plan(route, {"gpu/small": DOWN}, max_local_lag=200))[0] == "top"


def test_thousands_are_not_looked_at_while_the_first_are_well() -> None:
    """A decision must stay quick; where the first are down, the healthy ones are found."""
    many = tuple(Offer(provider="p", model=f"m{number:04}") for number in range(1_000))
    asked: list[str] = []

    def health(provider: str, model: str) -> ModelHealth | None:
        asked.append(model)
        return DOWN if model < down else None

    down = "m0003"
    assert ordered_by_health(many, health).offers[0].model == "m0003"
    assert len(set(asked)) == 32
    down = "m0990"
    assert ordered_by_health(many, health).offers[0].model == "m0990"
