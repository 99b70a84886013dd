"""Requests whose task a small model is asked for, from the topic to the books."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from broker_under_test import BrokerUnderTest
from pipeline_under_test import Pipeline, whole_pipeline

from millrace.schemas.response import Response

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = "Say what kind of work it is"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pipeline(
    shared_broker: BrokerUnderTest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pipeline]:
    """A pipeline that asks a local model, and then another."""
    routes = {
        "code_generation": {"strategy": "ensemble", "mode": "merge", "members": 2},
        "reasoning": {"candidates": ["anthropic/*"], "allow_unlisted": False},
    }
    classification = {"models": ["llama3.2", "gpt-4.1-mini"]}
    async with whole_pipeline(
        shared_broker,
        tmp_path_factory.mktemp("classification"),
        routes=routes,
        classification=classification,
    ) as running:
        yield running


async def ask(pipeline: Pipeline, said: str, **fields: Any) -> tuple[str, Response]:
    """Send what the rules can make nothing of, with how the model is to classify it."""
    prompt = f"Would you? [[sim:where={json.dumps(ASKED)} {said}]]"
    request_id = await pipeline.ask("unnamed", prompt=prompt, **fields)
    return request_id, await pipeline.topics.response(request_id)


def named(task: str) -> str:
    """Have the simulator name a task."""
    return f"answer={json.dumps(json.dumps({'task': task, 'confidence': 0.9}))}"


async def the_books_agree(pipeline: Pipeline, request_id: str, response: Response) -> None:
    """Each attempt is one row, and the response has the cost of all."""

    def booked() -> bool:
        rows = pipeline.topics.ledger[request_id]
        return sum(row.event == "spent" for row in rows) == len(response.attempts)

    await pipeline.topics.until(booked, f"the ledger of {request_id}")
    spent = [row for row in pipeline.topics.ledger[request_id] if row.event == "spent"]
    keys = {(row.member, row.attempt) for row in spent}
    assert keys == {(each.member, each.attempt) for each in response.attempts}
    assert response.cost_usd == sum(row.cost_usd or 0 for row in spent)


async def test_the_plan_is_made_for_the_task_that_the_model_names(pipeline: Pipeline) -> None:
    """The question is an attempt like others; no chunk of it is sent."""
    request_id, response = await ask(pipeline, named("reasoning"), stream=True)

    assert (response.status, response.task) == ("completed", "reasoning")
    assert response.provider == "anthropic"
    assert [(each.attempt, each.role, each.model) for each in response.attempts] == [
        (1, "classify", "llama3.2"),
        (2, "answer", "claude-haiku-4-5"),
    ]
    assert response.plan is not None
    assert (response.plan.task_source, response.plan.task_confidence) == ("model", 0.9)
    await the_books_agree(pipeline, request_id, response)
    chunks = await pipeline.topics.stream(request_id)
    assert "".join(each.delta for each in chunks) == response.text


async def test_several_members_may_follow(pipeline: Pipeline) -> None:
    """The task's own strategy holds."""
    request_id, response = await ask(pipeline, named("code_generation"))

    assert (response.status, response.strategy) == ("completed", "ensemble")
    roles = sorted((each.member, each.attempt, each.role) for each in response.attempts)
    assert roles == [(0, 1, "classify"), (0, 2, "answer"), (1, 1, "answer"), (2, 1, "merge")]
    await the_books_agree(pipeline, request_id, response)


async def test_without_an_answer_what_the_rules_guessed_holds(pipeline: Pipeline) -> None:
    """Every model was asked, and that none answered does not cost the request its own answer."""
    request_id, response = await ask(pipeline, "http=400")

    assert (response.status, response.task) == ("completed", "general")
    asked = {each.model for each in response.attempts if each.role == "classify"}
    assert asked == {"llama3.2", "gpt-4.1-mini"}
    assert response.plan is not None
    assert response.plan.task_source == "default"
    await the_books_agree(pipeline, request_id, response)


async def test_nobody_is_asked_where_the_task_is_known(pipeline: Pipeline) -> None:
    """Named by the request, or clear to the rules."""
    clear = await pipeline.ask("clear", prompt="Summarize the meeting notes: key takeaways only.")
    given = await pipeline.ask("given", prompt="Would you?", task="general")

    for request_id in (clear, given):
        response = await pipeline.topics.response(request_id)
        assert {each.role for each in response.attempts} == {"answer"}


async def test_a_private_request_is_classified_on_local_hardware_only(pipeline: Pipeline) -> None:
    """Also where the local model has no answer."""
    _, response = await ask(pipeline, "http=400", route={"sensitivity": "private"})

    assert response.status == "completed"
    assert {each.provider for each in response.attempts} == {"ollama"}
