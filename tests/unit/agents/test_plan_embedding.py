"""Which models turn texts into vectors, and how many texts at once."""

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_records import at, make_job

from millrace.agents.health import ModelHealth
from millrace.agents.offers import Offer
from millrace.agents.plan_route import PlanRoute
from millrace.agents.policy import RoutePolicy
from millrace.providers.tokens import estimate_messages
from millrace.schemas.call import AttemptSummary, Call, Job
from millrace.schemas.errors import ErrorInfo, InvalidEventError
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.request import Route
from millrace.schemas.response import Response

EMBEDS: frozenset[Any] = frozenset({"embeddings"})
LONGEST_NUMBER = -2.2250738585072014e-308


def offer(provider: str, model: str, **facts: Any) -> Offer:
    """An embedding model of 100 dimensions, unless said otherwise."""
    given: dict[str, Any] = {
        "capabilities": EMBEDS,
        "dimensions": 100,
        "input_usd_per_million": Decimal("0.02"),
    }
    return Offer(provider=provider, model=model, **(given | facts))


SMALL = offer("openai", "small", quality=50)
SMALL_TOO = offer("azure", "small", quality=40)
LARGE = offer("openai", "large", quality=90, input_usd_per_million=Decimal("0.13"))
LOCAL = offer("ollama", "nomic", hardware="gpu", quality=30, input_usd_per_million=None)
CHAT = Offer(provider="openai", model="chat", capabilities=frozenset({"json"}), quality=99)
BOTH = offer("vllm", "both", capabilities=frozenset({"embeddings", "json"}), quality=10)
ALL = (SMALL, SMALL_TOO, LARGE, LOCAL, CHAT)


def texts(*inputs: str, **fields: Any) -> Job:
    """A job with these texts."""
    return make_job(messages=(), inputs=inputs or ("a mill", "a river"), **fields)


def chosen(job: Job, route: Route | None = None, *offers: Offer, **options: Any) -> list[str]:
    """The names of the candidates in order."""
    policy = RoutePolicy.model_validate(options.pop("policy", {}))
    router = PlanRoute(
        offers=offers or ALL, policy=policy, count_tokens=estimate_messages, **options
    )
    (member,) = router.plan(job, route or Route()).members
    return [f"{each.provider}/{each.model}" for each in member.candidates]


def refusal(job: Job, route: Route | None = None, *offers: Offer, **options: Any) -> Any:
    """The error of a job that nobody takes."""
    with pytest.raises(InvalidEventError) as caught:
        chosen(job, route, *offers, **options)
    return caught.value


def test_fallback_stays_with_the_model_at_other_entries() -> None:
    """Vectors of two models cannot be compared."""
    assert chosen(texts()) == ["openai/large"]
    assert chosen(texts(), Route(prefer_models=("small",))) == ["openai/small", "azure/small"]
    assert chosen(texts(), Route(prefer_providers=("azure",))) == ["azure/small", "openai/small"]


def test_which_model_it_is_does_not_depend_on_who_is_well() -> None:
    """Health chooses among the entries that have it, and only there."""
    gone = ModelHealth(usable=False, penalty=1)
    without = {"large": gone, "small": None}
    prefer = Route(prefer_models=("small",))

    assert chosen(texts(), health=lambda _, model: without.get(model)) == ["openai/large"]
    assert chosen(texts(), prefer, health=lambda name, _: gone if name == "openai" else None) == [
        "azure/small",
        "openai/small",
    ]


def test_models_that_the_request_lists_follow_one_another() -> None:
    """Whoever lists several takes the vectors of any."""
    route = Route(models=("small", "large", "nomic"))
    assert chosen(texts(), route) == [
        "openai/large",
        "openai/small",
        "azure/small",
        "ollama/nomic",
    ]
    assert chosen(texts(), Route(models=("openai/small",))) == ["openai/small"]


def test_a_model_that_only_embeds_gets_no_questions_and_a_chat_model_no_texts() -> None:
    """One that does both gets both."""
    question = make_job()
    assert chosen(question) == ["openai/chat"]
    assert "makes embeddings, and no answers" in refusal(question, None, SMALL).message
    assert "lacks embeddings" in refusal(texts(), None, CHAT).message
    assert chosen(question, None, BOTH) == chosen(texts(), None, BOTH) == ["vllm/both"]


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (Route(sensitivity="private"), ["ollama/nomic"]),
        (Route(strategy="local_only"), ["ollama/nomic"]),
        (Route(strategy="local_first"), ["ollama/nomic"]),
        (Route(strategy="cloud_only", models=("small", "nomic")), ["openai/small", "azure/small"]),
        (Route(hardware="gpu"), ["ollama/nomic"]),
        (Route(providers=("azure",)), ["azure/small"]),
        (Route(max_cost_usd=Decimal("0.0000003")), ["openai/small", "azure/small"]),
        (Route(max_cost_usd=Decimal("0.00000001")), ["ollama/nomic"]),
    ],
)
def test_the_route_of_the_request_holds(route: Route, expected: list[str]) -> None:
    """As for questions; local models that have no price are free."""
    assert chosen(texts(), route) == expected


def test_a_tasks_ensemble_means_nothing_for_vectors() -> None:
    """What the operator set for questions does not end requests for vectors."""
    assert chosen(texts(), policy={"default": {"strategy": "ensemble"}}) == ["openai/large"]


def test_candidates_of_the_task_come_first_and_their_number_is_bound() -> None:
    """As for questions."""
    policy = {"default": {"candidates": ["*/small"], "max_candidates": 1}}

    assert chosen(texts(), policy=policy) == ["openai/small"]


@pytest.mark.parametrize(
    ("facts", "job", "reason"),
    [
        ({"max_inputs": 1}, texts(), "takes at most 1 inputs at once, not 2"),
        ({"context_window": 8}, texts("word " * 50), "window of 8 tokens is too small"),
        ({"input_usd_per_million": None}, texts(), "price is unknown"),
        ({"input_usd_per_million": Decimal(10**6)}, texts(), "it would cost about \\$"),
    ],
)
def test_a_refusal_says_why_each_model_was_passed_over(
    facts: dict[str, Any], job: Job, reason: str
) -> None:
    """With what was asked."""
    error = refusal(job, Route(max_cost_usd=Decimal(1)), offer("p", "m", **facts))

    assert error.code == "no_route"
    assert re.search(f"embeddings of {len(job.inputs)} inputs.*p/m: .*{reason}", error.message)


def test_a_batch_too_large_for_a_record_is_refused_with_the_number_that_fits() -> None:
    """That number is taken, and one more is not."""
    model = offer("p", "m", dimensions=1_000)
    error = refusal(texts(*["x"] * 200), None, model)
    number = int(re.search(r"at most (\d+) such inputs", error.message)[1])  # type: ignore[index]

    assert error.code == "too_large"
    assert chosen(texts(*["x"] * number), None, model) == ["p/m"]
    assert refusal(texts(*["x"] * (number + 1)), None, model).code == "too_large"
    assert chosen(texts(*["x"] * 200, dimensions=100), None, model) == ["p/m"]
    assert chosen(texts(*["x"] * 200), None, model, max_outcome_bytes=10_000_000) == ["p/m"]


def test_a_smaller_model_takes_what_a_larger_one_cannot() -> None:
    """The batch decides, not the rating alone."""
    large = offer("openai", "large", quality=90, dimensions=4_000)

    assert chosen(texts(*["x"] * 100), None, large, SMALL) == ["openai/small"]


def test_a_model_of_unknown_length_is_taken_for_a_long_one() -> None:
    """So that no paid answer is lost for its size."""
    unknown = offer("p", "m", dimensions=None)

    assert chosen(texts(*["x"] * 20), None, unknown) == ["p/m"]
    assert refusal(texts(*["x"] * 21), None, unknown).code == "too_large"


@settings(max_examples=40, deadline=None)
@given(
    inputs=st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=60),
    dimensions=st.integers(min_value=1, max_value=400),
    tags=st.dictionaries(st.text(max_size=20), st.text(max_size=200), max_size=10),
    limit=st.integers(min_value=20_000, max_value=400_000),
)
def test_what_is_taken_fits_into_the_records_of_its_answer(
    inputs: list[str], dimensions: int, tags: dict[str, str], limit: int
) -> None:
    """Whatever the vectors turn out to be, and after several attempts."""
    job = texts(*inputs, dimensions=dimensions, tags=tags)
    router = PlanRoute(
        offers=ALL,
        policy=RoutePolicy(),
        count_tokens=estimate_messages,
        max_outcome_bytes=limit,
    )
    try:
        plan = router.plan(job, Route())
    except InvalidEventError:
        return
    failed = AttemptSummary(
        attempt=1,
        provider="openai",
        model="large",
        status="failed",
        error=ErrorInfo(code="provider_unavailable", message="it is down " * 20),
    )
    vectors = ((LONGEST_NUMBER,) * dimensions,) * len(inputs)
    call = Call(job=job, plan=plan, history=(failed,) * 15)
    outcome = AttemptOutcome(
        call=call, invocation="i", status="completed", embeddings=vectors, finished_at=at(1)
    )
    response = Response(
        request_id="r1", status="completed", embeddings=vectors, tags=tags, completed_at=at(1)
    )

    assert len(outcome.encode()) <= limit
    assert len(response.encode()) <= limit
