"""Work that comes from outside: from `kcat`, and from a replay."""

import asyncio
import json
import os
import shutil

import pytest
from pipeline_under_test import Pipeline, fresh_id, request_body

from millrace.schemas.ids import replayed_request_id
from millrace.streams.topics import TopicNames

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def kcat(pipeline: Pipeline) -> str:
    """The real program, and a real broker."""
    if not pipeline.broker.is_real:
        pytest.skip("kcat is tried against Apache Kafka")
    found = shutil.which("kcat") or shutil.which("kafkacat")
    if found is None:
        told = "no kcat on this machine: install the package `kcat`"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    return found


async def run(*command: str, said: str = "") -> str:
    """Run a program, give it some input and return what it writes."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        written, complaint = await process.communicate(said.encode())
    assert process.returncode == 0, complaint.decode()
    return written.decode()


@pytest.mark.kafka
async def test_a_line_of_kcat_is_a_request_and_another_reads_the_answer(
    pipeline: Pipeline, kcat: str
) -> None:
    """Keyed by kcat's own partitioner, or not keyed at all."""
    names = TopicNames(pipeline.settings.kafka.topic_prefix)
    servers = pipeline.broker.bootstrap_servers
    request_id = fresh_id("kcat")
    line = json.dumps({"request_id": request_id, "prompt": "Why is the sky blue?"})
    await run(kcat, "-P", "-b", servers, "-t", names.requests, said=f"{line}\n")
    keyed = fresh_id("kcat-keyed")
    line = f"{keyed}|" + json.dumps({"request_id": keyed, "prompt": "Why?", "stream": True})
    await run(kcat, "-P", "-b", servers, "-t", names.requests, "-K", "|", said=f"{line}\n")
    await pipeline.topics.response(request_id)
    await pipeline.topics.response(keyed)

    whole = ("-o", "beginning", "-e", "-q")
    read = await run(kcat, "-C", "-b", servers, "-t", names.responses, *whole)
    ended = {record["request_id"]: record for record in map(json.loads, read.splitlines())}
    assert ended[request_id]["status"] == "completed"
    assert ended[keyed]["status"] == "completed"
    chunks = await run(kcat, "-C", "-b", servers, "-t", names.chunks, *whole, "-f", "%s\n")
    deltas = [
        chunk["delta"]
        for chunk in map(json.loads, chunks.splitlines())
        if chunk["request_id"] == keyed
    ]
    assert "".join(deltas) == ended[keyed]["text"]


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
