"""A plan that is remembered is the plan that would be made anew."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_records import make_job

from millrace.agents.classify_task import classify_task
from millrace.agents.health import ModelHealth
from millrace.agents.offers import Offer
from millrace.agents.plan_route import PlanRoute
from millrace.agents.policy import RoutePolicy
from millrace.providers.tokens import estimate_messages
from millrace.schemas.call import Job, Plan
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.message import Message, ToolDefinition
from millrace.schemas.request import OutputSpec, Parameters, Route

OFFERS = (
    Offer(provider="a", model="m", context_window=60, max_output_tokens=40, quality=70),
    Offer(provider="b", model="m", context_window=4_000, quality=60),
    Offer(provider="c", model="n", hardware="gpu", capabilities=frozenset({"json"}), quality=20),
    Offer(provider="d", model="n", hardware="cpu", context_window=900, quality=20),
)
TEXTS = ("Hi.", "Hi?", "Fix this bug: it crashes.", "x " * 30, "y " * 900, "Why?\n- a\n- b\n- c?")

jobs = st.builds(
    lambda text, task, private, output, answer, tools: make_job(
        task=task,
        messages=(Message(role="user", content=text),),
        sensitivity="private" if private else "normal",
        output=OutputSpec(format=output),
        parameters=Parameters(max_output_tokens=answer),
        tools=tools,
    ),
    st.sampled_from(TEXTS),
    st.sampled_from(["general", "bug_fixing"]),
    st.booleans(),
    st.sampled_from(["text", "json"]),
    st.sampled_from([None, 30, 500]),
    st.sampled_from([(), (ToolDefinition(name="t"),)]),
)
routes = st.builds(
    Route,
    strategy=st.sampled_from(
        ["auto", "local_first", "cloud_first", "local_only", "cascade", "ensemble"]
    ),
    prefer_models=st.sampled_from([(), ("n",)]),
    max_latency_s=st.sampled_from([None, 2.0]),
    min_quality=st.sampled_from([None, 50]),
)
healths = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    st.builds(
        ModelHealth,
        usable=st.booleans(),
        penalty=st.sampled_from([0.0, 0.01, 0.9]),
        lag=st.sampled_from([None, 0, 5_000]),
        total_ms=st.sampled_from([None, 500.0, 9_000.0]),
    ),
)


def planner(told: dict[str, ModelHealth]) -> PlanRoute:
    """A planner that hears this of the entries, whatever it is to hear later."""
    return PlanRoute(
        offers=OFFERS,
        policy=RoutePolicy.model_validate({"default": {"min_quality": 10, "fallbacks": ["d/*"]}}),
        count_tokens=estimate_messages,
        health=lambda provider, _: told.get(provider),
    )


def planned(by: PlanRoute, job: Job, route: Route, guessed: bool) -> Plan | str:
    """The plan, or why there is none."""
    guess = classify_task(job.messages)._replace(task=job.task) if guessed else None
    try:
        return by.plan(job, route, guess)
    except InvalidEventError as error:
        return error.message


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(jobs, routes, st.booleans(), healths), min_size=2, max_size=12))
def test_a_planner_that_has_planned_before_plans_as_a_new_one(
    asked: list[tuple[Any, Any, bool, dict[str, ModelHealth]]],
) -> None:
    """Whatever was asked before, and however the models were doing then."""
    told: dict[str, ModelHealth] = {}
    experienced = planner(told)
    for job, route, guessed, health in (*asked, *asked):
        told.clear()
        told.update(health)

        assert planned(experienced, job, route, guessed) == planned(
            planner(health), job, route, guessed
        )


def test_equal_requests_share_a_plan() -> None:
    """While all is well."""
    by = planner({})

    assert by.plan(make_job(), Route()) is by.plan(make_job(), Route())
