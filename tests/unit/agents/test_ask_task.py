"""When a model is asked for a request's task, and what becomes of what it says."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pipeline_joins import OutcomesTopic, make_join, steps
from pipeline_records import make_job, make_outcome

from millrace.agents.ask_task import AskTask
from millrace.agents.classify_task import TaskGuess
from millrace.agents.join import open_until
from millrace.agents.offers import Offer
from millrace.agents.plan_route import PlanRoute
from millrace.agents.policy import ClassificationPolicy, RoutePolicy
from millrace.schemas.call import Call
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.request import Route

UNSURE = TaskGuess(task="general", source="default", confidence=0.0)
PRICED = {
    "input_usd_per_million": Decimal(1),
    "output_usd_per_million": Decimal(1),
    "max_output_tokens": 1_000,
}
OFFERS = (
    Offer(provider="local", model="small", hardware="gpu", quality=30),
    Offer(provider="near", model="mid", quality=60, **PRICED),
    Offer(provider="far", model="big", quality=90, **PRICED),
)
RACE = {"code_review": {"strategy": "parallel", "members": 2}}
NOWHERE = {"code_review": {"candidates": ["nobody/*"], "allow_unlisted": False}}


def planning(routes: dict[str, Any] | None = None) -> PlanRoute:
    """Three models of three entries; the local one is free."""
    return PlanRoute(
        offers=OFFERS,
        policy=RoutePolicy.model_validate(routes or {}),
        count_tokens=lambda _: 1_000,
    )


def question(
    *models: str, guess: TaskGuess | None = UNSURE, below: float = 0.6, **route: Any
) -> Call | None:
    """What is asked before a request's plan."""
    plan = planning()
    wishes = Route.model_validate(route)
    job = make_job(sensitivity=wishes.sensitivity)
    policy = ClassificationPolicy(models=models, below=below)
    asking = AskTask(policy=policy, plan=plan, steps=steps())
    return asking.call(job, wishes, guess, plan.plan(job, wishes, guess))


def asked_of(call: Call | None) -> list[str]:
    """The providers, in order."""
    return [each.provider for each in call.plan.members[0].candidates] if call else []


@pytest.mark.parametrize(
    ("models", "rest", "expected"),
    [
        ((), {}, []),
        (("small",), {}, ["local"]),
        (("big", "small"), {}, ["local", "far"]),
        (("far/big",), {"strategy": "local_only"}, []),
        (("big", "small"), {"sensitivity": "private"}, ["local"]),
        (("big",), {"sensitivity": "private"}, []),
        (("big",), {"hardware": "gpu"}, []),
        (("small",), {"guess": None}, []),
        (("small",), {"guess": UNSURE._replace(confidence=0.6)}, []),
        (("small",), {"guess": UNSURE._replace(confidence=0.59)}, ["local"]),
        (("big",), {"max_cost_usd": "0.0021", "providers": ["near"]}, []),
        (("big",), {"max_cost_usd": "0.0041", "providers": ["near"]}, ["far"]),
    ],
)
def test_who_is_asked(models: tuple[str, ...], rest: dict[str, Any], expected: list[str]) -> None:
    """Where the rules are unsure; within the request's privacy, hardware, side and cost."""
    assert asked_of(question(*models, **rest)) == expected


def test_what_the_question_may_cost_is_taken_from_the_bound() -> None:
    """The plan that follows has the rest."""
    call = question("big", max_cost_usd="0.01")

    assert call is not None
    assert call.undecided is not None
    assert call.undecided.route.max_cost_usd == Decimal("0.01") - Decimal("0.002")
    assert (call.role, call.stream, call.tools) == ("classify", False, ())


def topic(routes: dict[str, Any] | None = None) -> OutcomesTopic:
    """A validator that plans by these routes."""
    return OutcomesTopic(join=replace(make_join(), plan=planning(routes)))


def told(call: Call, task: str, **fields: Any) -> AttemptOutcome:
    """What the model says."""
    text = json.dumps({"task": task, "confidence": 0.8})
    return make_outcome(call, text=text, **fields)


def asked() -> Call:
    """A question to the local model, after which another may be asked."""
    call = question("big", "small")
    assert call is not None
    return call


def test_the_request_goes_on_with_the_task_that_was_found() -> None:
    """As the next attempt of the first member, with the question in its history."""
    outcomes = topic()
    outcomes.write(told(asked(), "code_review"))

    (call,) = outcomes.calls
    assert (call.job.task, call.member, call.attempt, call.undecided) == ("code_review", 0, 2, None)
    assert [(each.attempt, each.role, each.status) for each in call.history] == [
        (1, "classify", "completed")
    ]
    assert (call.plan.task_source, call.plan.task_confidence) == ("model", 0.8)
    assert (call.brief, outcomes.responses) == (None, [])


def test_an_answer_that_comes_twice_plans_once() -> None:
    """Also one that says something else: the call was read again after a crash."""
    outcomes = topic()
    outcomes.write(told(asked(), "code_review"))
    again = outcomes.write(told(asked(), "reasoning", invocation="again"))

    assert again.ignored is not None
    assert [each.job.task for each in outcomes.calls] == ["code_review"]


def test_a_join_opens_where_the_task_has_several_members() -> None:
    """With its clock set, and one end that lists the question."""
    outcomes = topic(RACE)
    decision = outcomes.write(told(asked(), "code_review"))

    assert decision.state is not None
    assert open_until(decision.state) == asked().job.deadline
    assert [(each.member, each.attempt) for each in outcomes.calls] == [(0, 2), (1, 1)]
    outcomes.write(make_outcome(outcomes.calls[1], text="done"))
    (response,) = outcomes.responses
    assert (response.strategy, response.text, response.task) == ("parallel", "done", "code_review")
    assert [each.role for each in response.attempts] == ["classify", "answer"]


def test_a_task_that_no_model_fits_leaves_the_plan_by_the_rules() -> None:
    """The router has seen that it can be carried out."""
    outcomes = topic(NOWHERE)
    outcomes.write(told(asked(), "code_review"))

    (call,) = outcomes.calls
    assert (call.job.task, call.plan.task_source, call.attempt) == ("general", "default", 2)


def test_who_has_no_answer_is_followed_by_the_next_and_then_by_the_rules() -> None:
    """A failed question costs the request nothing but its price."""
    outcomes = topic()
    outcomes.write(make_outcome(asked(), status="failed"))
    (second,) = outcomes.calls
    outcomes.write(make_outcome(second, status="failed"))

    assert (second.role, second.target.provider, second.attempt) == ("classify", "far", 2)
    call = outcomes.calls[-1]
    assert (call.role, call.job.task, call.attempt) == ("answer", "general", 3)
    assert [each.status for each in call.history] == ["failed", "failed"]


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_request_may_end_while_its_task_is_asked_for(status: str) -> None:
    """Nothing more is asked then."""
    outcomes = topic(RACE)
    outcomes.write(make_outcome(asked(), status=status))

    assert [each.status for each in outcomes.responses] == [status]
    assert outcomes.calls == []
