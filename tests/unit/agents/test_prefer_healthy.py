"""Who is asked first when not all are well."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_records import make_job

from millrace.agents.health import HealthOf, ModelHealth
from millrace.agents.offers import Offer
from millrace.agents.plan_route import PlanRoute
from millrace.agents.policy import RoutePolicy
from millrace.agents.prefer_healthy import prefer_healthy
from millrace.schemas.call import Plan
from millrace.schemas.request import Route

WELL = ModelHealth()
OFFERS = tuple(Offer(provider=name, model="m") for name in ("a", "b", "c"))


def health_of(**known: ModelHealth) -> HealthOf:
    """Health by the provider's name."""
    return lambda provider, _: known.get(provider)


def order(**known: ModelHealth) -> list[str]:
    """The providers in the order in which they are asked."""
    return [each.provider for each in prefer_healthy(OFFERS, health_of(**known)).offers]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, "abc"),
        ({"a": WELL, "c": WELL}, "abc"),
        ({"a": ModelHealth(usable=False, penalty=1)}, "bca"),
        ({"a": ModelHealth(penalty=0.19)}, "abc"),
        ({"a": ModelHealth(penalty=0.3), "b": ModelHealth(penalty=0.6)}, "cab"),
        ({"b": ModelHealth(lag=64)}, "abc"),
        ({"b": ModelHealth(lag=65)}, "acb"),
        ({"b": ModelHealth(lag=500, in_flight=256)}, "abc"),
        ({"a": ModelHealth(lag=100_000), "b": ModelHealth(lag=100)}, "cba"),
        ({"a": ModelHealth(penalty=0.3), "b": ModelHealth(lag=100_000)}, "cba"),
    ],
)
def test_who_is_well_is_asked_first(known: dict[str, ModelHealth], expected: str) -> None:
    """First what is usable, then what speaks against it in coarse steps, then the queue."""
    assert "".join(order(**known)) == expected


def test_with_all_out_of_reach_calls_go_as_before() -> None:
    """Somebody has to find out who recovers first; and nobody is said to be put back."""
    gone = ModelHealth(usable=False, penalty=1)
    ordered = prefer_healthy(OFFERS, health_of(a=gone, b=gone, c=gone))

    assert (ordered.offers, ordered.put_back) == (OFFERS, ())


healths = st.none() | st.builds(
    ModelHealth,
    usable=st.booleans(),
    penalty=st.floats(0, 1),
    lag=st.none() | st.integers(0, 10_000),
    in_flight=st.integers(0, 500),
)


@given(known=st.lists(healths, max_size=8))
@settings(max_examples=100, deadline=None)
def test_nothing_is_left_out_and_nobody_is_put_back_for_nothing(
    known: list[ModelHealth | None],
) -> None:
    """For any healths: the same offers, no usable one behind an unusable one, reasons for both."""
    offers = tuple(Offer(provider=str(index), model="m") for index in range(len(known)))
    ordered = prefer_healthy(offers, lambda provider, _: known[int(provider)])
    usable = [health is None or health.usable for health in known]
    after = [usable[int(each.provider)] for each in ordered.offers]
    overtaken = {
        offers[index]
        for index in range(len(offers))
        if any(
            ordered.offers.index(later) < ordered.offers.index(offers[index])
            for later in offers[index + 1 :]
        )
    }

    assert sorted(each.provider for each in ordered.offers) == [each.provider for each in offers]
    assert after == sorted(after, reverse=True)
    assert {offer for offer, _ in ordered.put_back} == overtaken


def planned(route: Route, health: HealthOf, **policy: object) -> Plan:
    """A plan over the three."""
    planning = PlanRoute(
        offers=OFFERS,
        policy=RoutePolicy.model_validate({"default": policy}),
        count_tokens=lambda _: 10,
        health=health,
    )
    return planning.plan(make_job(), route)


def test_a_plan_says_who_was_put_back() -> None:
    """Among its reasons where it is asked later, and among those passed over where it is not."""
    gone = health_of(a=ModelHealth(usable=False, penalty=1))
    all_three = planned(Route(), gone)
    two = planned(Route(), gone, max_candidates=2)

    assert [each.provider for each in all_three.members[0].candidates] == ["b", "c", "a"]
    assert any("a/m put back: it cannot be reached" in each for each in all_three.reasons)
    assert [each.provider for each in two.members[0].candidates] == ["b", "c"]
    assert [(each.provider, each.reason) for each in two.passed_over] == [
        ("a", "put back: it cannot be reached, or its circuit is open")
    ]


def test_members_of_an_ensemble_are_well_where_enough_are() -> None:
    """The other one stays as their fallback."""
    gone = health_of(a=ModelHealth(usable=False, penalty=1))
    plan = planned(Route(strategy="ensemble", members=2), gone)

    assert [member.candidates[0].provider for member in plan.members] == ["b", "c"]
    assert plan.members[0].candidates[1].provider == "a"
