"""Requests for vectors, over every wire that has embeddings, from the topic to the books."""

import asyncio
import sys
from pathlib import Path

import pytest
from pipeline_under_test import Pipeline, fresh_id
from pipeline_vectors import EMBEDDERS, ask_vectors

from millrace.client import Millrace
from millrace.providers.simulator.embeddings import embed_text
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.ids import replayed_request_id
from millrace.streams.topics import TopicNames

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERY_WIRE = pytest.mark.parametrize("provider", EMBEDDERS)


@EVERY_WIRE
async def test_vectors_come_in_order_and_to_the_last_digit(
    pipeline: Pipeline, provider: str
) -> None:
    """As the provider gave them, with its count in the books and no chunk."""
    request_id = await ask_vectors(pipeline, "vectors", route={"providers": [provider]})
    response = await pipeline.topics.response(request_id)
    (line,) = pipeline.paid(request_id)
    await pipeline.topics.until(
        lambda: len(pipeline.topics.ledger[request_id]) == 2, "both ledger events"
    )
    reserved, spent = pipeline.topics.ledger[request_id]

    assert (response.status, response.text, response.error) == ("completed", "", None)
    assert (response.provider, response.model) == (provider, EMBEDDERS[provider])
    inputs = pipeline.sent[request_id]["inputs"]
    assert response.embeddings == tuple(map(embed_text, inputs))
    assert reserved.usage.source == "estimated"
    assert reserved.usage.input_tokens > 0
    assert response.usage == spent.usage
    assert (spent.usage.source, spent.usage.input_tokens, spent.usage.output_tokens) == (
        "reported",
        line.input_tokens,
        0,
    )
    assert response.cost_usd == spent.cost_usd
    assert spent.cost_usd is not None
    assert (spent.cost_usd > 0) is (provider != "ollama")
    assert pipeline.topics.chunks[request_id] == []


@EVERY_WIRE
async def test_the_length_of_the_vectors_can_be_asked_for(
    pipeline: Pipeline, provider: str
) -> None:
    """Where the model lets it be chosen."""
    request_id = await ask_vectors(
        pipeline, "short", dimensions=16, route={"models": [EMBEDDERS[provider]]}
    )
    response = await pipeline.topics.response(request_id)

    assert [len(vector) for vector in response.embeddings] == [16, 16, 16]


@EVERY_WIRE
async def test_a_failure_that_may_pass_is_tried_again_and_booked_twice(
    pipeline: Pipeline, provider: str
) -> None:
    """One row for each exchange; the first one was refused and cost nothing."""
    request_id = await ask_vectors(
        pipeline, "again", simulate="http=503 times=1", route={"providers": [provider]}
    )
    response = await pipeline.topics.response(request_id)
    await pipeline.topics.until(
        lambda: len(pipeline.topics.ledger[request_id]) == 4, "both attempts in the ledger"
    )

    assert response.status == "completed"
    assert [each.status for each in response.attempts] == ["failed", "completed"]
    assert {each.model for each in response.attempts} == {EMBEDDERS[provider]}
    assert len(pipeline.paid(request_id)) == 2
    spent = [each for each in pipeline.topics.ledger[request_id] if each.event == "spent"]
    assert sorted(each.usage.input_tokens > 0 for each in spent) == [False, True]


async def test_no_other_models_vectors_are_given_in_place(pipeline: Pipeline) -> None:
    """Unless the request names them: vectors of two models cannot be compared."""
    down = "http=500 only=openai"
    alone = await ask_vectors(
        pipeline, "alone", simulate=down, route={"prefer_providers": ["openai"]}
    )
    named = await ask_vectors(
        pipeline,
        "named",
        simulate=down,
        route={
            "models": [EMBEDDERS["openai"], EMBEDDERS["gemini"]],
            "prefer_models": [EMBEDDERS["openai"]],
        },
    )

    failed = await pipeline.topics.response(alone)
    assert failed.status == "failed"
    assert {each.model for each in failed.attempts} == {EMBEDDERS["openai"]}
    moved = await pipeline.topics.response(named)
    assert (moved.status, moved.model) == ("completed", EMBEDDERS["gemini"])


async def test_texts_never_go_to_a_chat_model_nor_questions_to_an_embedding_model(
    pipeline: Pipeline,
) -> None:
    """Though the request names it."""
    vectors = await ask_vectors(pipeline, "chat", route={"models": ["gpt-4.1-mini"]})
    words = await pipeline.ask("embeds", route={"models": [EMBEDDERS["openai"]]})

    for request_id in (vectors, words):
        response = await pipeline.topics.response(request_id)
        assert response.error is not None
        assert (response.status, response.error.code) == ("rejected", "no_route")
        assert pipeline.paid(request_id) == []


async def test_private_texts_stay_on_local_hardware(pipeline: Pipeline) -> None:
    """As private questions do."""
    request_id = await ask_vectors(
        pipeline, "private", route={"sensitivity": "private", "prefer_providers": ["openai"]}
    )
    response = await pipeline.topics.response(request_id)

    assert (response.status, response.provider) == ("completed", "ollama")
    assert [line.instance for line in pipeline.paid(request_id)] == ["ollama"]


async def test_a_batch_too_large_for_a_record_is_refused_before_it_costs_anything(
    pipeline: Pipeline,
) -> None:
    """With the number that fits, which is taken then."""
    body = {"route": {"providers": ["openai"]}, "dimensions": 2_000}
    large = fresh_id("large")
    await pipeline.send({"request_id": large, "inputs": ["x"] * 200, **body})
    rejected = await pipeline.topics.response(large)
    assert rejected.error is not None
    assert (rejected.status, rejected.error.code) == ("rejected", "too_large")
    number = int(rejected.error.message.partition("at most ")[2].split()[0])

    fitting = fresh_id("fitting")
    await pipeline.send({"request_id": fitting, "inputs": ["x"] * number, **body})
    response = await pipeline.topics.response(fitting)
    assert (response.status, len(response.embeddings)) == ("completed", number)


async def test_a_batch_that_hangs_ends_when_it_is_cancelled(pipeline: Pipeline) -> None:
    """And is booked as an estimate."""
    topics = TopicNames(pipeline.settings.kafka.topic_prefix)
    request_id = await ask_vectors(
        pipeline, "hang", simulate="hang", route={"providers": ["openai"]}
    )
    await pipeline.simulator.ledger.until(lambda _: bool(pipeline.paid(request_id)))
    record = Cancellation(request_id=request_id)
    await pipeline.producer.send_and_wait(topics.cancellations, record.encode())
    response = await pipeline.topics.response(request_id)

    assert (response.status, response.embeddings) == ("cancelled", ())
    assert response.usage is not None
    assert response.usage.source == "estimated"
    assert response.usage.input_tokens > 0


async def test_the_program_shows_how_many_vectors_came(pipeline: Pipeline, tmp_path: Path) -> None:
    """Of texts given as options."""
    script = "from millrace.streams.cli.main import main; main()"
    options = ("--embed", "a mill", "--embed", "a river", "--dimensions", "8", "--model")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, "send", *options, EMBEDDERS["openai"], "--follow"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "KAFKA_BOOTSTRAP_SERVERS": pipeline.broker.bootstrap_servers,
            "MILLRACE_KAFKA__TOPIC_PREFIX": pipeline.settings.kafka.topic_prefix,
        },
    )
    async with asyncio.timeout(60):
        written, complaint = await process.communicate()

    assert process.returncode == 0, complaint.decode()
    first, last = written.decode().splitlines()
    assert first.startswith("2 vectors of 8 numbers: [")
    assert f"completed · openai/{EMBEDDERS['openai']} · " in last


async def test_the_client_gets_the_vectors_of_its_texts(pipeline: Pipeline) -> None:
    """As numbers, in the order of the texts."""
    async with Millrace(pipeline.settings.kafka) as client:
        response = await client.embed(["a mill", "a river"], dimensions=16, provider="gemini")

    assert response.embeddings == (embed_text("a mill", 16), embed_text("a river", 16))


async def test_a_replay_may_ask_another_model(pipeline: Pipeline) -> None:
    """Its vectors are among the evaluations, and nowhere else."""
    original = await ask_vectors(
        pipeline, "original", route={"models": [EMBEDDERS["openai"]]}, dimensions=16
    )
    await pipeline.topics.response(original)
    again = replayed_request_id("replay-vectors", original)
    await pipeline.send(
        {
            **pipeline.sent[original],
            "request_id": again,
            "route": {"models": [EMBEDDERS["ollama"]]},
            "replay": {"replay_id": "replay-vectors", "original_request_id": original},
        }
    )
    await pipeline.topics.until(lambda: pipeline.topics.evaluations[again], "the evaluation")

    (evaluation,) = pipeline.topics.evaluations[again]
    assert (evaluation.status, evaluation.provider) == ("completed", "ollama")
    assert [len(vector) for vector in evaluation.embeddings] == [16, 16, 16]
    assert again not in pipeline.topics.responses
