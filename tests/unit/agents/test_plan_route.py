"""Which models a job goes to, in which order, and what is said when there is none."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.offers import Offer
from millrace.agents.plan_route import PlanRoute
from millrace.agents.policy import RoutePolicy
from millrace.schemas.call import Job, Plan
from millrace.schemas.errors import ConfigurationError, InvalidEventError
from millrace.schemas.message import ImagePart, Message, TextPart, ToolDefinition
from millrace.schemas.request import OutputSpec, Parameters, Route
from millrace.schemas.vocabulary import LOCAL_HARDWARE, Capability, Hardware, Strategy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

BIG = Offer(
    provider="openai",
    model="big",
    capabilities=frozenset({"tools", "vision", "json", "json_schema"}),
    context_window=100_000,
    max_output_tokens=8_000,
    quality=90,
    input_usd_per_million=Decimal(10),
    output_usd_per_million=Decimal(30),
)
MINI = replace(
    BIG,
    model="mini",
    capabilities=frozenset({"tools", "json"}),
    quality=60,
    input_usd_per_million=Decimal(1),
    output_usd_per_million=Decimal(2),
)
CLAUDE = replace(BIG, provider="anthropic", model="claude", quality=85)
LLAMA = Offer(
    provider="ollama-gpu",
    model="llama",
    hardware="gpu",
    capabilities=frozenset({"json", "json_schema", "tools"}),
    context_window=8_000,
    quality=50,
)
PHI = Offer(provider="ollama-cpu", model="phi", hardware="cpu", context_window=2_000, quality=30)
UNPRICED = Offer(provider="lab", model="mystery", quality=10)
ALL = (BIG, MINI, CLAUDE, LLAMA, PHI, UNPRICED)


def agent(
    offers: Sequence[Offer] = ALL, policy: dict[str, Any] | None = None, tokens: int = 500
) -> PlanRoute:
    return PlanRoute(
        offers=tuple(offers),
        policy=RoutePolicy.model_validate(policy or {}),
        count_tokens=lambda messages: tokens * len(messages),
    )


def job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "request_id": "r",
        "task": "general",
        "messages": (Message(role="user", content="x"),),
        "accepted_at": NOW,
        "deadline": NOW,
    }
    return Job(**(fields | changes))


def models(plan: Plan) -> list[list[str]]:
    return [[candidate.model for candidate in member.candidates] for member in plan.members]


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ({}, ["big", "claude", "mini", "llama"]),
        ({"providers": ["openai"]}, ["big", "mini"]),
        ({"models": ["mini"]}, ["mini"]),
        ({"models": ["openai/mini", "phi"]}, ["mini", "phi"]),
        ({"providers": ["anthropic", "lab"]}, ["claude", "mystery"]),
        ({"prefer_models": ["llama"]}, ["llama", "big", "claude", "mini"]),
        ({"prefer_models": ["phi", "mini"]}, ["phi", "mini", "big", "claude"]),
        ({"prefer_providers": ["anthropic"]}, ["claude", "big", "mini", "llama"]),
        (
            {"prefer_models": ["mini"], "prefer_providers": ["lab"]},
            ["mini", "mystery", "big", "claude"],
        ),
        ({"prefer_models": ["nosuch"]}, ["big", "claude", "mini", "llama"]),
        ({"hardware": "local"}, ["llama", "phi"]),
        ({"hardware": "gpu"}, ["llama"]),
        ({"hardware": "cpu"}, ["phi"]),
        ({"hardware": "cloud"}, ["big", "claude", "mini", "mystery"]),
        ({"strategy": "local_only"}, ["llama", "phi"]),
        ({"strategy": "cloud_only"}, ["big", "claude", "mini", "mystery"]),
        ({"strategy": "local_first"}, ["llama", "phi", "big", "claude"]),
        ({"strategy": "cloud_first"}, ["big", "claude", "mini", "llama"]),
        ({"strategy": "local_first", "prefer_models": ["mini"]}, ["mini", "llama", "phi", "big"]),
        ({"sensitivity": "private"}, ["llama", "phi"]),
        ({"sensitivity": "private", "prefer_models": ["big"]}, ["llama", "phi"]),
        ({"sensitivity": "private", "strategy": "cloud_first"}, ["llama", "phi"]),
        ({"capabilities": ["tools"]}, ["big", "claude", "mini", "llama"]),
        ({"capabilities": ["tools", "vision"]}, ["big", "claude"]),
        ({"max_cost_usd": "0.01"}, ["mini", "llama", "phi"]),
        ({"max_cost_usd": "0.002"}, ["llama", "phi"]),
        ({"max_cost_usd": "0"}, ["llama", "phi"]),
    ],
)
def test_a_route_orders_and_bounds_the_candidates(
    route: dict[str, Any], expected: list[str]
) -> None:
    """Each wish of the request by itself, over the default policy."""
    plan = agent().plan(job(), Route.model_validate(route))

    assert models(plan) == [expected]
    assert plan.mode is None
    assert plan.quorum == 1


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, ["big", "claude", "mini", "llama"]),
        ({"candidates": ["ollama-*/*", "openai/mini"]}, ["llama", "phi", "mini", "big"]),
        ({"candidates": ["*/mini", "openai/*"]}, ["mini", "big", "claude", "llama"]),
        ({"candidates": ["*/mini"], "allow_unlisted": False}, ["mini"]),
        ({"candidates": ["openai/*"], "max_candidates": 1}, ["big"]),
        ({"candidates": ["openai/*"], "max_candidates": 2}, ["big", "claude"]),
        (
            {"candidates": ["openai/*"], "max_candidates": 2, "allow_unlisted": False},
            ["big", "mini"],
        ),
        ({"strategy": "local_only"}, ["llama", "phi"]),
        ({"max_candidates": 2, "strategy": "local_first"}, ["llama", "big"]),
        ({"max_candidates": 2, "strategy": "cloud_first"}, ["big", "llama"]),
    ],
)
def test_the_policy_orders_the_candidates(section: dict[str, Any], expected: list[str]) -> None:
    """Patterns in their order, then quality; the last place for another provider or side."""
    plan = agent(policy={"default": section}).plan(job(), Route())

    assert models(plan) == [expected]


def test_each_task_has_its_own_route() -> None:
    """A task's section applies to that task alone."""
    planner = agent(policy={"code_review": {"candidates": ["*/phi"], "max_candidates": 1}})

    assert models(planner.plan(job(task="code_review"), Route())) == [["phi"]]
    assert models(planner.plan(job(), Route()))[0][0] == "big"


def test_the_request_names_a_strategy_over_the_policys() -> None:
    """The policy's strategy is for requests that leave it open."""
    planner = agent(policy={"default": {"strategy": "local_only"}})

    assert planner.plan(job(), Route()).strategy == "local_only"
    assert planner.plan(job(), Route(strategy="cloud_only")).strategy == "cloud_only"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tools": (ToolDefinition(name="t"),)}, ["big", "claude", "mini", "llama"]),
        (
            {
                "messages": (
                    Message(
                        role="user",
                        content=(
                            TextPart(type="text", text="what?"),
                            ImagePart(type="image", url="https://x/y.png"),
                        ),
                    ),
                )
            },
            ["big", "claude"],
        ),
        ({"parameters": Parameters(max_output_tokens=3_000)}, ["big", "claude", "mini", "llama"]),
        ({"parameters": Parameters(max_output_tokens=7_600)}, ["big", "claude", "mini", "mystery"]),
        ({"parameters": Parameters(max_output_tokens=9_000)}, ["mystery"]),
    ],
)
def test_what_the_job_contains_bounds_the_candidates(
    changes: dict[str, Any], expected: list[str]
) -> None:
    """Tools need tools, images need vision, long answers need room."""
    assert models(agent().plan(job(**changes), Route())) == [expected]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (900, ["llama", "phi"]),
        (976, ["llama", "phi"]),
        (977, ["llama"]),
        (6_976, ["llama"]),
    ],
)
def test_prompt_and_answer_must_fit_into_the_window(tokens: int, expected: list[str]) -> None:
    """1,024 tokens are kept free for an answer of unknown length."""
    plan = agent(tokens=tokens).plan(job(), Route(hardware="local"))

    assert models(plan) == [expected]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (OutputSpec(), ["phi", "mini", "llama"]),
        (OutputSpec(format="json"), ["mini", "llama", "phi"]),
        (OutputSpec(format="json", json_schema={}), ["llama", "mini", "phi"]),
    ],
)
def test_support_of_the_output_format_comes_before_quality(
    output: OutputSpec, expected: list[str]
) -> None:
    """A format orders, and excludes nothing."""
    offers = (replace(PHI, quality=99), replace(MINI, quality=98), replace(LLAMA, quality=97))

    assert models(agent(offers).plan(job(output=output), Route())) == [expected]


def test_the_operators_order_comes_before_support_of_the_output_format() -> None:
    """Who lists a model first means it."""
    planner = agent(policy={"default": {"candidates": ["*/phi"]}})
    output = OutputSpec(format="json", json_schema={})

    assert models(planner.plan(job(output=output), Route()))[0][0] == "phi"


def test_equal_quality_is_ordered_by_price_and_then_by_name() -> None:
    """Unknown prices come last; a local model without a price is free."""
    dear, cheap = replace(BIG, model="dear"), replace(MINI, model="cheap", quality=90)
    twin = replace(dear, model="dear-twin")
    unknown, free = replace(UNPRICED, quality=90), replace(LLAMA, quality=90)
    planner = agent((unknown, twin, dear, cheap, free), policy={"default": {"max_candidates": 5}})

    assert models(planner.plan(job(), Route())) == [
        ["llama", "cheap", "dear", "dear-twin", "mystery"]
    ]


def test_an_ensemble_asks_different_providers() -> None:
    """Members have candidates of their own, and by default more than half must answer."""
    plan = agent().plan(job(), Route(strategy="ensemble", members=3))

    assert [member.candidates[0].provider for member in plan.members] == [
        "openai",
        "anthropic",
        "ollama-gpu",
    ]
    assert plan.strategy == "ensemble"
    assert plan.mode == "vote"
    assert plan.quorum == 2
    everyone = [name for names in models(plan) for name in names]
    assert len(everyone) == len(set(everyone)) == 6


@pytest.mark.parametrize(
    ("members", "asked", "policy", "expected"),
    [(2, None, None, 2), (4, None, None, 3), (3, 3, 1, 3), (3, 1, 3, 1), (3, None, 3, 3)],
)
def test_the_quorum_is_the_requests_or_the_policys_or_a_majority(
    members: int, asked: int | None, policy: int | None, expected: int
) -> None:
    """How many answers a decision needs."""
    planner = agent(policy={"default": {"quorum": policy}})
    route = Route(strategy="ensemble", members=members, quorum=asked)

    assert planner.plan(job(), route).quorum == expected


def test_a_quorum_above_the_members_is_refused() -> None:
    """It could never be reached."""
    with pytest.raises(InvalidEventError, match="a quorum of 5 cannot be reached by 3") as caught:
        agent().plan(job(), Route(strategy="ensemble", members=3, quorum=5))

    assert caught.value.code == "invalid_request"


def test_an_ensemble_of_the_policy_shrinks_to_what_fits() -> None:
    """Two are still a vote; the plan says that there are fewer."""
    planner = agent(policy={"default": {"strategy": "ensemble", "members": 4}})

    plan = planner.plan(job(), Route(hardware="local"))

    assert models(plan) == [["llama"], ["phi"]]
    assert "2 members fewer than 4: no more models fit" in plan.reasons


@pytest.mark.parametrize(
    ("route", "complaint"),
    [
        ({"members": 3, "hardware": "local"}, "needs 3 models and 2 fit"),
        ({"hardware": "gpu"}, "needs 2 models and 1 fit"),
    ],
)
def test_an_ensemble_without_enough_models_is_refused(
    route: dict[str, Any], complaint: str
) -> None:
    """A number that the request gives binds; less than two is no vote."""
    with pytest.raises(InvalidEventError, match=complaint) as caught:
        agent().plan(job(), Route(strategy="ensemble", **route))

    assert caught.value.code == "no_route"


def test_an_ensemble_shares_its_cost_bound() -> None:
    """Three calls at half the price of the bound do not fit into it."""
    bound = Decimal("0.03")  # 500 tokens in, 1,024 out: big costs 0.03572, mini 0.002548

    plan = agent().plan(job(), Route(strategy="ensemble", members=3, max_cost_usd=bound))

    assert sorted(name for names in models(plan) for name in names) == ["llama", "mini", "phi"]


def test_members_are_for_ensembles_only() -> None:
    """A wish for members does not make another strategy fail."""
    assert len(agent().plan(job(), Route(members=5)).members) == 1


@pytest.mark.parametrize(
    ("route", "changes", "parts"),
    [
        (
            {"providers": ["openia"]},
            {},
            ["providers openia", "unknown: provider 'openia'", "not among the providers asked for"],
        ),
        ({"models": ["big", "huge"], "hardware": "gpu"}, {}, ["unknown: model 'huge'"]),
        (
            {"sensitivity": "private", "providers": ["openai"]},
            {},
            ["private, so local hardware only", "openai/big: the request is private"],
        ),
        (
            {"sensitivity": "private", "strategy": "cloud_only"},
            {},
            ["strategy cloud_only", "ollama-gpu/llama: strategy 'cloud_only' excludes"],
        ),
        ({"hardware": "gpu", "providers": ["openai"]}, {}, ["runs on cloud, not on gpu"]),
        ({"capabilities": ["reasoning", "code"]}, {}, ["it lacks code, reasoning"]),
        (
            {"hardware": "local"},
            {"parameters": Parameters(max_output_tokens=9_000)},
            ["an answer of up to 9000", "context window of 8000 tokens is too small for about 500"],
        ),
        (
            {"providers": ["openai"]},
            {"parameters": Parameters(max_output_tokens=9_000)},
            ["it answers with at most 8000 tokens, not 9000"],
        ),
        (
            {"providers": ["openai"], "max_cost_usd": "0.001"},
            {},
            ["at most $0.001 in all", "openai/mini: it would cost about $0.002548"],
        ),
        (
            {"providers": ["lab"], "max_cost_usd": "1"},
            {},
            ["its price is unknown, so that max_cost_usd cannot be kept"],
        ),
    ],
)
def test_no_route_says_what_was_asked_and_why_the_nearest_fall_short(
    route: dict[str, Any], changes: dict[str, Any], parts: list[str]
) -> None:
    """Whoever reads the rejection knows what to change."""
    with pytest.raises(InvalidEventError) as caught:
        agent().plan(job(**changes), Route.model_validate(route))

    assert caught.value.code == "no_route"
    assert all(part in caught.value.message for part in parts), caught.value.message


def test_the_nearest_fall_short_in_the_fewest_ways() -> None:
    """The first of them is the one that almost fits."""
    route = Route(sensitivity="private", capabilities=("vision",), models=("llama",))

    with pytest.raises(InvalidEventError) as caught:
        agent().plan(job(), route)

    nearest = caught.value.message.partition("passed over: ")[2]
    assert nearest.startswith("ollama-gpu/llama: it lacks vision; ")


def test_without_offers_the_operator_is_told() -> None:
    """An empty deployment has no route for anybody."""
    with pytest.raises(InvalidEventError, match="add one to the config") as caught:
        agent(()).plan(job(), Route())

    assert caught.value.code == "no_route"


def test_a_model_offered_twice_is_a_mistake_of_the_config() -> None:
    """Provider and model name an offer."""
    with pytest.raises(ConfigurationError, match="openai/big"):
        agent((BIG, MINI, BIG))


def test_a_plan_says_why() -> None:
    """Reasons and models passed over are kept with the plan."""
    route = Route(sensitivity="private", capabilities=("tools",), max_latency_s=2)

    plan = agent().plan(job(), route)

    assert plan.reasons == (
        "strategy auto from [routes.default]",
        "private, so local hardware only",
        "capabilities tools",
        "about 500 prompt tokens",
        "1 of 6 models fit but for sizes",
        "complexity 0.2 (length 0.4, task 0.2, steps 0, demands 0.042)",
        "answers within 2 s; 1 model(s) not measured yet",
    )
    assert [(each.model, each.reason) for each in plan.passed_over] == [
        ("big", "the request is private and this runs in the cloud"),
        ("claude", "the request is private and this runs in the cloud"),
        ("mini", "the request is private and this runs in the cloud"),
        ("phi", "it lacks tools"),
        ("mystery", "the request is private and this runs in the cloud"),
    ]


def test_models_passed_over_are_bounded() -> None:
    """A plan travels in every call."""
    many = [replace(BIG, model=f"m{number}") for number in range(100)]

    plan = agent((*many, LLAMA)).plan(job(), Route(hardware="gpu"))

    assert len(plan.passed_over) == 10


def test_tools_count_as_prompt() -> None:
    """Their definitions are sent along, so that they take room."""
    plan = agent().plan(job(tools=(ToolDefinition(name="t"),)), Route())

    assert "about 1000 prompt tokens" in plan.reasons


_NAMES = st.sampled_from(["a", "b", "c", "openai", "*"])
_OFFERS = st.lists(
    st.builds(
        Offer,
        provider=st.sampled_from(["a", "b", "c", "d"]),
        model=st.sampled_from(["m", "n", "o"]),
        hardware=st.sampled_from(get_args(Hardware)),
        capabilities=st.frozensets(st.sampled_from(get_args(Capability)), max_size=3),
        context_window=st.none() | st.integers(1, 5_000),
        max_output_tokens=st.none() | st.integers(1, 5_000),
        quality=st.integers(0, 3),
        input_usd_per_million=st.none() | st.decimals(0, 9, places=2),
        output_usd_per_million=st.none() | st.decimals(0, 9, places=2),
    ),
    max_size=12,
    unique_by=lambda offer: (offer.provider, offer.model),
)
_AVAILABLE = st.sampled_from(get_args(Strategy))
_POLICIES = st.fixed_dictionaries(
    {},
    optional={
        name: st.fixed_dictionaries(
            {},
            optional={
                "strategy": _AVAILABLE,
                "candidates": st.lists(st.sampled_from(["a/*", "*/m", "b/n", "*/*"]), max_size=3),
                "allow_unlisted": st.booleans(),
                "max_candidates": st.integers(1, 5),
                "members": st.integers(2, 5),
            },
        )
        for name in ("default", "general")
    },
)
_ROUTES = st.builds(
    Route,
    strategy=_AVAILABLE,
    providers=st.lists(_NAMES, max_size=2).map(tuple),
    prefer_providers=st.lists(_NAMES, max_size=2).map(tuple),
    prefer_models=st.lists(st.sampled_from(["m", "n"]), max_size=2).map(tuple),
    hardware=st.sampled_from(["any", "local", "cloud", "gpu", "cpu"]),
    sensitivity=st.sampled_from(["normal", "private"]),
    max_cost_usd=st.none() | st.decimals(0, 1, places=3),
    members=st.none() | st.integers(2, 5),
)


def planned(planner: PlanRoute, work: Job, route: Route) -> Plan | str:
    """The plan, or the code and message of the refusal."""
    try:
        return planner.plan(work, route)
    except InvalidEventError as error:
        return f"{error.code}: {error.message}"


@settings(max_examples=200)
@given(offers=_OFFERS, policy=_POLICIES, route=_ROUTES, by_job=st.booleans())
def test_a_private_job_never_gets_a_cloud_candidate(
    offers: list[Offer], policy: dict[str, Any], route: Route, by_job: bool
) -> None:
    """Under no policy, with no offers, whatever else is asked."""
    work = job(sensitivity="private" if by_job else "normal")
    private = route if by_job else route.model_copy(update={"sensitivity": "private"})

    plan = planned(agent(offers, policy), work, private)

    if isinstance(plan, Plan):
        for member in plan.members:
            assert all(candidate.hardware in LOCAL_HARDWARE for candidate in member.candidates)


@settings(max_examples=100)
@given(offers=_OFFERS, policy=_POLICIES, route=_ROUTES, seed=st.integers(0, 100))
def test_the_same_inputs_make_the_same_plan(
    offers: list[Offer], policy: dict[str, Any], route: Route, seed: int
) -> None:
    """Also with the offers in another order, by another instance, and when asked again."""
    shuffled = random.Random(seed).sample(offers, len(offers))
    first = agent(offers, policy)

    plan = planned(first, job(), route)

    assert planned(first, job(), route) == plan
    assert planned(agent(shuffled, policy), job(), route) == plan


@settings(max_examples=100)
@given(offers=_OFFERS, policy=_POLICIES, route=_ROUTES)
def test_every_candidate_was_offered_and_none_is_planned_twice(
    offers: list[Offer], policy: dict[str, Any], route: Route
) -> None:
    """What binds holds for each candidate, and a quorum can be reached."""
    plan = planned(agent(offers, policy), job(), route)

    if isinstance(plan, Plan):
        offered = {(offer.provider, offer.model, offer.hardware) for offer in offers}
        named = [
            [(each.provider, each.model, each.hardware) for each in member.candidates]
            for member in plan.members
        ]
        asked = {each for names in named for each in names}
        assert asked <= offered
        assert all(len(names) == len(set(names)) for names in named)
        assert not route.providers or {provider for provider, _, _ in asked} <= set(route.providers)
        answering = [
            each
            for member, names in zip(plan.members, named, strict=True)
            if member.role in {"answer", "refine"}
            for each in names
        ]
        assert len(answering) == len(set(answering))
        assert 1 <= plan.quorum <= len(plan.members)
        assert (plan.mode is not None) is (plan.strategy == "ensemble")
        stages = [member.stage for member in plan.members]
        assert stages == sorted(stages)
        assert set(stages) == set(range(max(stages) + 1))
