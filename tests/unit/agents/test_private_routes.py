"""Private work stays on local hardware: whatever the config, the wishes and the state of things."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.agents.health import ModelHealth
from millrace.agents.offers import Offer
from millrace.agents.plan_route import PlanRoute
from millrace.agents.policy import RoutePolicy
from millrace.schemas.call import Job
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.message import Message, ToolDefinition
from millrace.schemas.request import OutputSpec, Route
from millrace.schemas.vocabulary import (
    LOCAL_HARDWARE,
    Capability,
    ConfidenceSource,
    EnsembleMode,
    Hardware,
    Strategy,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_PROVIDERS, _MODELS = ("a", "b", "c", "d"), ("m", "n", "o")
_PATTERNS = st.sampled_from(["a/*", "*/m", "b/n", "c/o", "*/*", "d/*"])
_PATTERN_LISTS = st.lists(_PATTERNS, max_size=3)
_NAMES = st.sampled_from(["a/m", "b/n", "c/o", "d/m", "m", "n", "nosuch"])

_OFFERS = st.lists(
    st.builds(
        Offer,
        provider=st.sampled_from(_PROVIDERS),
        model=st.sampled_from(_MODELS),
        hardware=st.sampled_from(get_args(Hardware)),
        capabilities=st.frozensets(st.sampled_from(get_args(Capability)), max_size=3),
        context_window=st.none() | st.integers(500, 5_000),
        quality=st.integers(0, 100),
        tier=st.none() | st.integers(0, 3),
        input_usd_per_million=st.none() | st.decimals(0, 9, places=2),
        output_usd_per_million=st.none() | st.decimals(0, 9, places=2),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda offer: (offer.provider, offer.model),
)
_SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "strategy": st.sampled_from(get_args(Strategy)),
        "candidates": _PATTERN_LISTS,
        "allow_unlisted": st.booleans(),
        "order_by": st.sampled_from(["quality", "price"]),
        "min_quality": st.integers(0, 60),
        "max_candidates": st.integers(1, 4),
        "fallbacks": _PATTERN_LISTS,
        "default_model": _PATTERNS,
        "max_local_lag": st.integers(0, 20),
        "members": st.integers(2, 5),
        "mode": st.sampled_from(get_args(EnsembleMode)),
        "judge": _PATTERN_LISTS,
        "tiers": st.lists(st.lists(_PATTERNS, max_size=2), max_size=3),
        "confidence": st.sampled_from(get_args(ConfidenceSource)),
        "max_parts": st.integers(1, 4),
    },
)
_ROUTES = st.builds(
    Route,
    strategy=st.sampled_from(get_args(Strategy)),
    providers=st.lists(st.sampled_from(_PROVIDERS), max_size=2).map(tuple),
    models=st.lists(_NAMES, max_size=2).map(tuple),
    prefer_models=st.lists(_NAMES, max_size=2).map(tuple),
    hardware=st.sampled_from(["any", "local", "cloud", "gpu", "cpu"]),
    max_cost_usd=st.none() | st.decimals(0, 1, places=4),
    max_latency_s=st.none() | st.floats(0.1, 5),
    min_quality=st.none() | st.integers(0, 60),
    members=st.none() | st.integers(2, 4),
    mode=st.none() | st.sampled_from(get_args(EnsembleMode)),
    judge=st.none() | _NAMES,
    confidence=st.none() | st.sampled_from(get_args(ConfidenceSource)),
    min_tier=st.none() | st.integers(0, 3),
)
_WIDE_ROUTES = st.builds(
    Route,
    strategy=st.sampled_from(["ensemble", "delegate", "cascade"]),
    mode=st.sampled_from(["best_of", "merge"]),
    members=st.just(2),
    judge=st.none() | _NAMES,
)
"""Wishes that are mostly granted, so that judges, planners and later stages come about."""

_HEALTH = st.dictionaries(
    st.tuples(st.sampled_from(_PROVIDERS), st.sampled_from(_MODELS)),
    st.builds(
        ModelHealth,
        usable=st.booleans(),
        penalty=st.floats(0, 1),
        lag=st.none() | st.integers(0, 50),
        total_ms=st.none() | st.floats(1, 10_000),
    ),
    max_size=8,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    offers=_OFFERS,
    policy=st.fixed_dictionaries({}, optional={"default": _SECTIONS, "code_review": _SECTIONS}),
    route=_ROUTES | _WIDE_ROUTES,
    health=_HEALTH,
    by_job=st.booleans(),
    with_tools=st.booleans(),
)
def test_no_plan_of_a_private_request_names_a_cloud_model(
    *,
    offers: list[Offer],
    policy: dict[str, Any],
    route: Route,
    health: Mapping[tuple[str, str], ModelHealth],
    by_job: bool,
    with_tools: bool,
) -> None:
    """No member at no stage, no judge, no fallback, no default model, however busy or ill."""
    planner = PlanRoute(
        offers=tuple(offers),
        policy=RoutePolicy.model_validate(policy),
        count_tokens=lambda messages: 100 * len(messages),
        health=lambda provider, model: health.get((provider, model)),
    )
    work = Job(
        request_id="r",
        task="code_review",
        messages=(Message(role="user", content="x"),),
        tools=(ToolDefinition(name="t"),) * with_tools,
        output=OutputSpec(format="json"),
        sensitivity="private" if by_job else "normal",
        accepted_at=NOW,
        deadline=NOW,
    )
    if not by_job:
        route = route.model_copy(update={"sensitivity": "private"})

    try:
        plan = planner.plan(work, route)
    except InvalidEventError:
        return

    hardware = {(offer.provider, offer.model): offer.hardware for offer in offers}
    for member in plan.members:
        for each in member.candidates:
            assert hardware[each.provider, each.model] in LOCAL_HARDWARE
            assert each.hardware in LOCAL_HARDWARE
