"""Routes at work: private requests under every strategy, guessed tasks, and plans in responses."""

from typing import Any, get_args

import pytest
from pipeline_under_test import Pipeline

from millrace.schemas.vocabulary import Strategy

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("fault", ["", "http=500", "cut after=5", "http=429", "empty"])
async def test_a_private_request_never_leaves_local_hardware(
    pipeline: Pipeline, fault: str
) -> None:
    """Under every strategy, whatever fails; the simulator's own account is the witness."""
    wishes: list[dict[str, Any]] = [{"strategy": strategy} for strategy in get_args(Strategy)]
    wishes += [
        {
            "strategy": "ensemble",
            "members": 2,
            "min_members": 1,
            "mode": mode,
            "judge": "gpt-4.1-mini",
        }
        for mode in ("best_of", "merge", "chain")
    ]
    wishes += [{"strategy": "ensemble", "members": 2, "min_members": 1, "vote_by": "embedding"}]
    wishes += [{"prefer_providers": ["openai"]}, {"models": ["gpt-4.1-mini", "llama3.2"]}]
    asked = [
        await pipeline.ask(
            "private", simulate=fault, route={**wish, "sensitivity": "private", "max_parts": 2}
        )
        for wish in wishes
    ]

    for request_id in asked:
        await pipeline.topics.response(request_id)
    callees = {line.instance for request_id in asked for line in pipeline.paid(request_id)}
    prompts = {line.instance for line in pipeline.simulator.ledger.lines() if line.label in asked}

    assert callees | prompts <= {"ollama"}
    assert callees == {"ollama"}


async def test_an_unnamed_task_is_guessed_and_the_response_says_so(pipeline: Pipeline) -> None:
    """With the plan: who was to be asked, and why."""
    request_id = await pipeline.ask("guess", prompt="Summarize the key takeaways of this article.")
    response = await pipeline.topics.response(request_id)

    assert response.task == "summarization"
    assert response.plan is not None
    assert response.plan.task_source == "rules"
    assert response.plan.task_confidence is not None
    assert any(reason.startswith("task summarization by rules") for reason in response.plan.reasons)
    assert response.plan.members[0].candidates[0].provider == response.provider


async def test_a_named_task_is_taken_as_named(pipeline: Pipeline) -> None:
    """Whatever the text says."""
    request_id = await pipeline.ask("named", task="general", prompt="Summarize this article.")
    response = await pipeline.topics.response(request_id)

    assert response.task == "general"
    assert response.plan is not None
    assert response.plan.task_source == "named"
