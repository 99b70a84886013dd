"""Who takes part in each strategy, at which stage and in which tier."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.climb_tiers import tiers_of
from millrace.agents.health import ModelHealth
from millrace.agents.offers import Offer
from millrace.agents.plan_route import PlanRoute
from millrace.agents.policy import RoutePolicy, TaskRoute
from millrace.schemas.call import Job, Plan, VoteRule
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.message import Message
from millrace.schemas.request import Parameters, Route

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def offer(name: str, *, quality: int, price: str | None = None, **facts: Any) -> Offer:
    """An offer `provider/model`; without a price it is local and free."""
    provider, model = name.split("/")
    usd = None if price is None else Decimal(price)
    facts.setdefault("hardware", "gpu" if price is None else "cloud")
    return Offer(
        provider=provider,
        model=model,
        quality=quality,
        input_usd_per_million=usd,
        output_usd_per_million=usd,
        **facts,
    )


LLAMA = offer("gpu/llama", quality=40)
PHI = offer("cpu/phi", quality=30, hardware="cpu")
MINI = offer("openai/mini", quality=60, price="1")
BIG = offer("openai/big", quality=90, price="10")
HAIKU = offer("anthropic/haiku", quality=65, price="2")
OPUS = offer("anthropic/opus", quality=95, price="40")
ALL = (LLAMA, PHI, MINI, BIG, HAIKU, OPUS)

HealthByName = dict[str, ModelHealth]


def planner(
    offers: Sequence[Offer] = ALL, health: HealthByName | None = None, **section: Any
) -> PlanRoute:
    """A planner with this default section."""
    health_of: Callable[[str, str], ModelHealth | None] | None = None
    if health is not None:
        known = health

        def health_of(provider: str, model: str) -> ModelHealth | None:
            return known.get(f"{provider}/{model}")

    return PlanRoute(
        offers=tuple(offers),
        policy=RoutePolicy.model_validate({"default": section}),
        count_tokens=lambda _: 1_000,
        health=health_of,
    )


def job(**changes: Any) -> Job:
    """A job of 1,000 prompt tokens and at most 1,000 for the answer."""
    fields: dict[str, Any] = {
        "request_id": "r",
        "task": "general",
        "messages": (Message(role="user", content="x"),),
        "parameters": Parameters(max_output_tokens=1_000),
        "accepted_at": NOW,
        "deadline": NOW,
    }
    return Job(**(fields | changes))


def shape(plan: Plan) -> list[tuple[int, str, list[str]]]:
    """Stage, role and models of each member."""
    return [
        (member.stage, member.role, [each.model for each in member.candidates])
        for member in plan.members
    ]


def refusal(planning: PlanRoute, route: Route) -> str:
    """Code and message of the refusal of a request."""
    with pytest.raises(InvalidEventError) as caught:
        planning.plan(job(), route)
    return f"{caught.value.code}: {caught.value.message}"


def test_a_race_asks_different_providers_at_once() -> None:
    """The first answer ends it, so that one is enough."""
    plan = planner(max_candidates=1).plan(job(), Route(strategy="parallel", members=3))

    assert shape(plan) == [
        (0, "answer", ["opus"]),
        (0, "answer", ["big"]),
        (0, "answer", ["llama"]),
    ]
    assert (plan.quorum, plan.mode) == (1, None)


def test_a_race_of_the_operators_shrinks_to_one() -> None:
    """Who asks for three gets three or a refusal; `min_members` says how few will do."""
    local = {"strategy": "parallel", "hardware": "gpu"}

    assert len(planner().plan(job(), Route.model_validate(local)).members) == 1
    assert "a race needs 3 models and 1 fit" in refusal(
        planner(), Route.model_validate({**local, "members": 3})
    )
    few = Route.model_validate({**local, "members": 3, "min_members": 1})
    assert "2 members fewer than 3: no more models fit" in planner().plan(job(), few).reasons


def test_a_chain_has_a_stage_for_each_member() -> None:
    """The first answers, the others refine."""
    route = Route(strategy="ensemble", mode="chain", members=3)

    plan = planner(max_candidates=1).plan(job(), route)

    assert [(stage, role) for stage, role, _ in shape(plan)] == [
        (0, "answer"),
        (1, "refine"),
        (2, "refine"),
    ]
    assert plan.quorum == 1


@pytest.mark.parametrize(
    ("mode", "wish", "section", "last"),
    [
        ("best_of", {}, {}, None),
        ("best_of", {"judge": "haiku"}, {}, (1, "judge", ["haiku"])),
        ("best_of", {"judge": "openai/mini"}, {}, (1, "judge", ["mini"])),
        ("best_of", {}, {"judge": ["*/big"]}, (1, "judge", ["big"])),
        ("merge", {}, {}, (1, "merge", ["opus"])),
        ("merge", {"judge": "phi"}, {"judge": ["*/big"]}, (1, "merge", ["phi"])),
        ("vote", {"judge": "haiku"}, {}, None),
    ],
)
def test_a_judge_is_the_one_named_or_the_best(
    mode: str,
    wish: dict[str, Any],
    section: dict[str, Any],
    last: tuple[int, str, list[str]] | None,
) -> None:
    """`best_of` goes by score unless somebody names a judge; `merge` always takes one."""
    route = Route.model_validate({"strategy": "ensemble", "mode": mode, "members": 2, **wish})

    plan = planner(max_candidates=1, **section).plan(job(), route)

    assert shape(plan)[2:] == ([] if last is None else [last])
    assert plan.quorum == 2


def test_a_named_judge_need_not_be_among_the_models_that_answer() -> None:
    """The request named it; the operator's judge stays within what binds."""
    route = Route(strategy="ensemble", mode="best_of", models=("mini", "haiku"), members=2)
    planning = planner(max_candidates=1, judge=["*/big"])

    assert shape(planning.plan(job(), route.model_copy(update={"judge": "opus"})))[-1][2] == [
        "opus"
    ]
    assert shape(planning.plan(job(), route))[-1][2] == ["haiku"]


def test_weights_are_the_requests_or_the_operators_or_the_rating() -> None:
    """By model, by name with provider, or by pattern."""
    route = Route(strategy="ensemble", mode="weighted", members=2)
    named = route.model_copy(update={"weights": {"opus": 3.0, "openai/big": 2.0}})

    def weights(plan: Plan) -> list[float]:
        return [member.weight for member in plan.members]

    assert weights(planner().plan(job(), named)) == [3.0, 2.0]
    assert weights(planner(weights={"openai/*": 0.5}).plan(job(), route)) == [0.95, 0.5]


def test_rules_of_a_vote_are_the_requests_over_the_operators() -> None:
    """A field alone says that the vote goes by it."""
    planning = planner(vote_by="similarity", vote_similarity=0.7, member_timeout_s=9)
    vote = Route(strategy="ensemble")

    assert planning.plan(job(), vote).vote == VoteRule(by="similarity", similarity=0.7)
    by_field = vote.model_copy(update={"vote_field": "grade", "member_timeout_s": 2.0})
    plan = planning.plan(job(), by_field)
    assert plan.vote == VoteRule(by="field", field="grade", similarity=0.7)
    assert plan.member_timeout_s == 2.0
    assert planning.plan(job(), vote).member_timeout_s == 9


EMBED: dict[str, Any] = {"capabilities": frozenset({"embeddings"}), "quality": 50}
SMALL = offer("openai/small-vectors", price="0.1", max_inputs=2, **EMBED)
LARGE = offer("openai/large-vectors", price="1", **EMBED)
OWN = offer("gpu/own-vectors", **EMBED)
BY_MEANING = Route(strategy="ensemble", vote_by="embedding", members=3)


def embedders(planning: PlanRoute, **wishes: Any) -> list[str]:
    """Who turns the answers into vectors, in order; none where nobody does."""
    plan = planning.plan(job(), BY_MEANING.model_copy(update=wishes))
    last = plan.members[-1]
    if last.role != "embed":
        return []
    assert last.stage == 1
    return [each.model for each in last.candidates]


def test_a_vote_by_embedding_has_a_member_that_makes_vectors() -> None:
    """The cheapest of equals that takes so many texts, the operator's, or the one named."""
    offers = (*ALL, SMALL, LARGE, OWN)

    assert embedders(planner(offers)) == ["own-vectors", "large-vectors"]
    assert embedders(planner(offers), members=2)[1] == "small-vectors"
    assert embedders(planner(offers, embedder=["openai/large*"]))[0] == "large-vectors"
    assert embedders(planner(offers), embedder="openai/large-vectors")[0] == "large-vectors"
    assert embedders(planner(offers), models=("mini", "big", "opus"))[0] == "own-vectors"
    assert embedders(planner(offers), mode="merge") == []
    assert embedders(planner(offers, vote_by="embedding"), vote_by=None)[0] == "own-vectors"


def test_vectors_are_made_where_the_answers_may_be_seen_and_within_the_bound() -> None:
    """A plan that cannot have them is refused, as one whose judge does not fit."""
    private = {"sensitivity": "private", "members": 2}
    unpriced = offer("openai/unpriced-vectors", hardware="cloud", **EMBED)

    assert embedders(planner((*ALL, LARGE, OWN)), **private) == ["own-vectors"]
    route = BY_MEANING.model_copy(update=private)
    assert "no model fits as the one to embed" in refusal(planner((*ALL, LARGE)), route)
    bound = BY_MEANING.model_copy(update={"max_cost_usd": Decimal(1)})
    assert "its price is unknown" in refusal(planner((*ALL, unpriced)), bound)
    assert planner((*ALL, LARGE)).plan(job(), bound).members[-1].role == "embed"


def tiers(plan: Plan) -> list[list[str]]:
    """The models of each tier of the first member."""
    found: dict[int, list[str]] = {}
    for each in plan.members[0].candidates:
        found.setdefault(each.tier, []).append(each.model)
    assert list(found) == list(range(len(found)))
    return list(found.values())


@pytest.mark.parametrize(
    ("section", "route", "expected"),
    [
        ({}, {}, [["llama", "mini"], ["haiku", "big"], ["opus"]]),
        ({"max_tiers": 2}, {}, [["llama", "mini", "haiku", "big"], ["opus"]]),
        ({"tiers": [["gpu/*"], ["*/haiku", "*/mini"]]}, {}, [["llama"], ["haiku", "mini"]]),
        ({"tiers": [["nosuch/*"], ["openai/*"]]}, {}, [["big", "mini"]]),
        ({}, {"min_tier": 1}, [["haiku", "big"], ["opus"]]),
        ({}, {"min_tier": 9}, [["opus"]]),
        ({"skip_tier_from": 0.0}, {}, [["haiku", "big"], ["opus"]]),
        (
            {"skip_tier_from": 0.0, "max_tiers": 2},
            {"min_tier": 0, "models": ["mini", "big"]},
            [["mini"], ["big"]],
        ),
        ({"max_candidates": 1}, {}, [["llama"], ["haiku"], ["opus"]]),
        ({}, {"max_cost_usd": "0.03"}, [["llama", "mini"], ["haiku", "big"]]),
        (
            {"tiers": [["gpu/*", "*/mini"], ["*/big"], ["*/opus"]]},
            {"max_cost_usd": "0.022"},
            [["llama", "mini"], ["big"]],
        ),
        (
            {"tiers": [["gpu/*", "*/mini"], ["*/big"], ["*/opus"]]},
            {"max_cost_usd": "0.0219"},
            [["llama", "mini"]],
        ),
    ],
)
def test_a_cascade_climbs_from_cheap_to_dear(
    section: dict[str, Any], route: dict[str, Any], expected: list[list[str]]
) -> None:
    """By the operator's tiers or by price and quality; all tiers together keep the bound."""
    wish = Route.model_validate({"strategy": "cascade", **route})

    plan = planner(**section).plan(job(), wish)

    assert tiers(plan) == expected
    assert plan.cascade is not None
    assert len(plan.cascade.thresholds) == len(expected) - 1


def test_models_can_name_their_tier() -> None:
    """Then those that name none are left out, and numbers may have gaps."""
    offers = (replace(BIG, tier=5), replace(MINI, tier=0), HAIKU)

    assert tiers(planner(offers).plan(job(), Route(strategy="cascade"))) == [["mini"], ["big"]]


def test_the_last_threshold_holds_for_the_rest() -> None:
    """The request's over the operator's."""
    planning = planner(thresholds=[0.5, 0.6, 0.7])
    route = Route(strategy="cascade")

    def thresholds(wish: Route) -> tuple[float, ...]:
        cascade = planning.plan(job(), wish).cascade
        assert cascade is not None
        return cascade.thresholds

    assert thresholds(route) == (0.5, 0.6)
    assert thresholds(route.model_copy(update={"thresholds": (0.9,)})) == (0.9, 0.9)


def test_agreement_takes_two_cheap_models_and_then_the_stronger_ones() -> None:
    """Of different providers where the tier has them."""
    route = Route(strategy="cascade", confidence="agreement")

    plan = planner().plan(job(), route)

    assert shape(plan) == [
        (0, "answer", ["llama"]),
        (0, "answer", ["mini"]),
        (1, "answer", ["haiku", "big", "opus"]),
    ]
    assert [each.tier for each in plan.members[2].candidates] == [1, 1, 2]
    assert plan.cascade is not None
    assert plan.cascade.confidence == "agreement"


def test_without_two_cheap_models_a_cascade_goes_by_score() -> None:
    """And says so."""
    plan = planner((MINI, BIG)).plan(job(), Route(strategy="cascade", confidence="agreement"))

    assert plan.cascade is not None
    assert plan.cascade.confidence == "score"
    assert any(reason.startswith("by score: agreement takes") for reason in plan.reasons)


def test_delegated_work_is_planned_spread_and_combined() -> None:
    """The best model plans and combines; each part begins with another one."""
    plan = planner(max_candidates=2).plan(job(), Route(strategy="delegate", max_parts=3))

    assert shape(plan) == [
        (0, "plan", ["opus", "big"]),
        (1, "part", ["opus", "big"]),
        (1, "part", ["big", "opus"]),
        (1, "part", ["opus", "big"]),
        (2, "combine", ["opus", "big"]),
    ]


@pytest.mark.parametrize(
    ("route", "cost"),
    [
        ({}, "0.08"),
        ({"models": ["mini"]}, "0.002"),
        ({"strategy": "parallel", "members": 2}, "0.1"),
        ({"strategy": "ensemble", "mode": "merge", "members": 2}, "0.26"),
        ({"strategy": "cascade", "models": ["mini", "big"]}, "0.002"),
        ({"models": ["mystery"]}, None),
    ],
)
def test_a_plan_says_what_it_will_cost(route: dict[str, Any], cost: str | None) -> None:
    """Every member once, the merging one with the answers that it reads; NULL where unknown."""
    unpriced = Offer(provider="lab", model="mystery", quality=1)

    plan = planner((*ALL, unpriced)).plan(job(), Route.model_validate(route))

    assert plan.estimated_cost_usd == (None if cost is None else Decimal(cost))


def test_a_bar_excludes_and_the_cheapest_above_it_comes_first() -> None:
    """`order_by = "price"` with a least quality: the cheapest that meets the bar."""
    planning = planner(order_by="price", min_quality=60)

    plan = planning.plan(job(), Route())

    assert shape(plan) == [(0, "answer", ["mini", "haiku", "big", "opus"])]
    assert [each.reason for each in plan.passed_over] == [
        "its quality 40 is below 60",
        "its quality 30 is below 60",
    ]
    assert shape(planning.plan(job(), Route(min_quality=0)))[0][2][0] == "llama"


def test_the_bar_rises_with_complexity() -> None:
    """Between the two bars, in steps of five."""
    planning = planner(order_by="price", min_quality=30, complex_min_quality=90)
    hard = job(
        task="reasoning",
        messages=(Message(role="user", content="Prove it? Derive it? Compare? Why?\n- a\n- b"),),
        parameters=Parameters(max_output_tokens=4_000),
    )

    assert shape(planning.plan(job(task="summarization"), Route()))[0][2][0] == "mini"
    assert shape(planning.plan(hard, Route()))[0][2][0] == "big"


def test_quality_may_differ_by_task() -> None:
    """A small model that is good at one thing comes first there."""
    offers = (replace(LLAMA, quality_by_task={"summarization": 99}), BIG)

    assert shape(planner(offers).plan(job(task="summarization"), Route()))[0][2][0] == "llama"
    assert shape(planner(offers).plan(job(), Route()))[0][2][0] == "big"


def test_fallbacks_come_last_whatever_their_rating() -> None:
    """They need not be listed, and what binds the request binds them."""
    planning = planner(
        candidates=["openai/*"],
        allow_unlisted=False,
        fallbacks=["gpu/*", "*/haiku"],
        min_quality=50,
    )

    assert shape(planning.plan(job(), Route()))[0][2] == ["big", "mini", "llama", "haiku"]
    cloud = planning.plan(job(), Route(hardware="cloud"))
    assert shape(cloud)[0][2] == ["big", "mini", "haiku"]


def test_the_default_model_is_asked_when_nothing_fits() -> None:
    """Names and abilities that nobody has are let go; the plan says so."""
    planning = planner(default_model="*/mini")
    route = Route(models=("gpt-9",), capabilities=("vision",))

    plan = planning.plan(job(), route)

    assert shape(plan) == [(0, "answer", ["mini"])]
    assert "no model fits, so the default model openai/mini" in plan.reasons


@pytest.mark.parametrize(
    "bounds",
    [
        {"sensitivity": "private"},
        {"hardware": "gpu"},
        {"strategy": "local_only"},
        {"max_cost_usd": "0.001"},
    ],
)
def test_the_default_model_never_leaves_bounds(bounds: dict[str, Any]) -> None:
    """Neither privacy nor hardware nor money is let go."""
    route = Route.model_validate({"models": ["gpt-9"], **bounds})

    assert refusal(planner(default_model="*/mini"), route).startswith("no_route: no model fits")


def test_measured_latency_bounds_and_what_is_not_measured_passes() -> None:
    """The plan says how many were not measured, and why others were passed over."""
    health = {
        "anthropic/opus": ModelHealth(total_ms=9_000.0),
        "openai/big": ModelHealth(total_ms=900),
    }
    planning = planner((OPUS, BIG, MINI), health)

    plan = planning.plan(job(), Route(max_latency_s=2))

    assert shape(plan) == [(0, "answer", ["big", "mini"])]
    assert [each.reason for each in plan.passed_over] == [
        "it takes about 9 s, longer than max_latency_s 2"
    ]
    assert "answers within 2 s; 1 model(s) not measured yet" in plan.reasons


@pytest.mark.parametrize(
    ("lag", "private", "expected"),
    [
        (50, False, ["llama", "phi", "big"]),
        (51, False, ["phi", "big", "llama"]),
        (51, True, ["phi", "llama"]),
    ],
)
def test_a_local_queue_that_is_too_deep_spills_over(
    lag: int, private: bool, expected: list[str]
) -> None:
    """Up to the bound local comes first; beyond it the cloud, but never with private work."""
    planning = planner((LLAMA, PHI, BIG), {"gpu/llama": ModelHealth(lag=lag)}, max_local_lag=50)
    route = Route(strategy="local_first", sensitivity="private" if private else "normal")

    plan = planning.plan(job(), route)

    assert shape(plan)[0][2] == expected
    busy = "51 calls wait at gpu, more than max_local_lag 50: the cloud first"
    assert (busy in plan.reasons) is (lag == 51)


_LADDER = st.lists(
    st.tuples(st.integers(0, 100), st.none() | st.integers(0, 50), st.none() | st.integers(0, 3)),
    max_size=12,
)


@settings(max_examples=200)
@given(facts=_LADDER, most=st.integers(2, 5))
def test_tiers_divide_and_climb(facts: list[tuple[int, int | None, int | None]], most: int) -> None:
    """No model twice, no tier empty; by price, each tier begins dearer and better than the last."""
    offers = [
        offer(f"p/m{at}", quality=quality, price=None if price is None else str(price), tier=tier)
        for at, (quality, price, tier) in enumerate(facts)
    ]
    found = tiers_of(offers, "general", TaskRoute(max_tiers=most))

    everyone = [each for tier in found for each in tier]
    assert len(everyone) == len(set(everyone))
    assert all(found)
    if all(each.tier is None for each in offers):
        assert len(found) <= most
        assert bool(found) is bool(offers)
        heads = [tier[0] for tier in found]
        assert [each.price for each in heads] == sorted(each.price for each in heads)
        ratings = [each.quality for each in heads]
        assert ratings == sorted(set(ratings))
    else:
        assert [{each.tier for each in tier} for tier in found] == [
            {each} for each in sorted({each.tier for each in offers if each.tier is not None})
        ]
