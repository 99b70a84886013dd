"""Answers are checked, repaired and scored on their way through the pipeline."""

import pytest
from pipeline_under_test import Pipeline

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONE_MODEL = {"providers": ["ollama"]}


async def test_a_rule_that_cannot_be_kept_ends_the_request_with_what_was_wrong(
    pipeline: Pipeline,
) -> None:
    """The model is told so as often as the request allows; its last words are kept."""
    output = {"rules": {"must_match": ["^never like this$"]}, "max_repairs": 2}
    request_id = await pipeline.ask("rules", output=output, route=ONE_MODEL)
    response = await pipeline.topics.response(request_id)

    assert response.status == "failed"
    assert response.error is not None
    assert response.error.code == "output_invalid"
    assert "never like this" in response.error.message
    assert response.text
    assert [each.repair for each in response.attempts] == [False, True, True]


async def test_without_repairs_a_model_is_asked_once(pipeline: Pipeline) -> None:
    """As the request says."""
    output = {"rules": {"max_chars": 1}, "max_repairs": 0}
    request_id = await pipeline.ask("rules", output=output, route=ONE_MODEL)
    response = await pipeline.topics.response(request_id)

    assert (response.status, len(response.attempts)) == ("failed", 1)


async def test_a_good_answer_comes_with_its_score(pipeline: Pipeline) -> None:
    """And with the parts that it is made of."""
    output = {"format": "json", "schema": {"type": "object"}, "validators": ["complete"]}
    request_id = await pipeline.ask("scored", output=output)
    response = await pipeline.topics.response(request_id)

    assert response.quality is not None
    assert response.quality.score == 1.0
    assert set(response.quality.parts) == {"json", "schema", "complete"}


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ({"validators": ["unheard_of"]}, "'unheard_of'"),
        ({"rules": {"must_match": ["(?=a)"]}}, "cannot be used"),
        ({"rules": {"language": "xx"}}, "cannot be told"),
    ],
)
async def test_what_cannot_be_checked_is_rejected(
    pipeline: Pipeline, output: dict[str, object], complaint: str
) -> None:
    """Before a model is paid for an answer."""
    request_id = await pipeline.ask("unusable", output=output)
    response = await pipeline.topics.response(request_id)

    assert response.error is not None
    assert (response.status, response.error.code) == ("rejected", "invalid_request")
    assert complaint in response.error.message
    assert pipeline.paid(request_id) == []
