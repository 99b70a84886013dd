"""Past requests sent again, apart from live work."""

import pytest
from pipeline_under_test import Pipeline, fresh_id, request_body

from millrace.schemas.ids import replayed_request_id

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_replayed_request_ends_among_the_evaluations(pipeline: Pipeline) -> None:
    """Never among the responses, never on the original's reply topic; its cost bears its mark."""
    original = await pipeline.ask("original", reply_to=pipeline.reply_topic)
    await pipeline.topics.response(original)
    replay_id = fresh_id("replay")
    again = replayed_request_id(replay_id, original)
    body = {
        **request_body(again, route={"providers": ["anthropic"]}, reply_to=pipeline.reply_topic),
        "replay": {"replay_id": replay_id, "original_request_id": original},
    }
    await pipeline.send(body)
    await pipeline.topics.until(lambda: pipeline.topics.evaluations[again], "the evaluation")
    last = await pipeline.ask("after-replay", reply_to=pipeline.reply_topic)
    await pipeline.topics.until(lambda: pipeline.topics.replies[last], "a later reply")

    (evaluation,) = pipeline.topics.evaluations[again]
    assert (evaluation.status, evaluation.provider) == ("completed", "anthropic")
    assert evaluation.replay is not None
    assert evaluation.replay.original_request_id == original
    assert again not in pipeline.topics.responses
    assert again not in pipeline.topics.replies
    assert {each.replay_id for each in pipeline.topics.ledger[again]} == {replay_id}


async def test_a_bad_replay_is_told_among_the_evaluations(pipeline: Pipeline) -> None:
    """As any other end of a replay."""
    replay_id = fresh_id("replay")
    request_id = fresh_id("bad-replay")
    await pipeline.send(
        {
            "request_id": request_id,
            "prompt": "x",
            "route": {"providers": ["nobody"]},
            "replay": {"replay_id": replay_id, "original_request_id": "o"},
        }
    )
    await pipeline.topics.until(
        lambda: pipeline.topics.evaluations[request_id], "the rejected evaluation"
    )

    assert pipeline.topics.evaluations[request_id][0].status == "rejected"
    assert request_id not in pipeline.topics.responses
