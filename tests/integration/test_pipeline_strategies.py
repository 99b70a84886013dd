"""Each strategy, from a request to its one answer."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from broker_under_test import BrokerUnderTest
from pipeline_under_test import (
    Pipeline,
    eventually,
    fresh_id,
    request_body,
    whole_pipeline,
)

from millrace.schemas.response import Response

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAVY_GEMINI = {"gemini-2.5-flash": 9.0, "gpt-4.1-mini": 1.0, "claude-haiku-4-5": 1.0}
TIERS = [["openai/*", "gemini/*"], ["anthropic/*"]]
CLOUD = ["openai", "anthropic", "gemini"]
JUDGING, MERGING = "Judge which of their answers is the best", "Write the one answer"
REFINING, RATING = "Give the improved answer", "How likely is it to be correct"
DIVIDING, COMBINING = "Divide the work on it into parts", "Write the answer to the request"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pipeline(
    shared_broker: BrokerUnderTest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pipeline]:
    """A pipeline with two tiers."""
    folder = tmp_path_factory.mktemp("strategies")
    async with whole_pipeline(
        shared_broker, folder, routes={"default": {"tiers": TIERS}}
    ) as running:
        yield running


def say(where: str, answer: str) -> str:
    """Command what is answered to a later step."""
    return f"[[sim:where={json.dumps(where)} answer={json.dumps(answer)}]]"


def each_says(**answers: str) -> str:
    """Command what each provider answers to the request itself."""
    return " ".join(
        f'[[sim:where="Tell me" only={name} answer={json.dumps(text)}]]'
        for name, text in answers.items()
    )


async def ask(
    pipeline: Pipeline, strategy: str, commands: str = "", *, simulate: str = "", **fields: Any
) -> tuple[str, Response]:
    """Send a request and wait for its end."""
    route = {"strategy": strategy, "providers": CLOUD, **fields.pop("route", {})}
    prompt = f"Tell me about mills. {commands}".strip()
    request_id = await pipeline.ask(
        strategy, simulate=simulate, prompt=prompt, route=route, **fields
    )
    return request_id, await pipeline.topics.response(request_id)


async def the_books_agree(pipeline: Pipeline, request_id: str) -> None:
    """Every call that the provider has seen is in the ledger, also those that were stopped."""

    def booked() -> bool:
        rows = pipeline.topics.ledger[request_id]
        spent = {row.row_id for row in rows if row.event == "spent"}
        reserved = {row.row_id for row in rows if row.event == "reserved"}
        return bool(spent) and spent == reserved

    await pipeline.topics.until(booked, f"the ledger of {request_id}")


async def test_a_race_takes_the_first_valid_answer_and_stops_the_others(
    pipeline: Pipeline,
) -> None:
    """In flight: the providers' connections are broken off, and what they cost is booked."""
    request_id, response = await ask(
        pipeline, "parallel", simulate="pace=2 tokens=200 label=race", route={"members": 3},
        commands='[[sim:where="Tell me" only=gemini answer="I was first." latency=50 pace=0]]',
    )  # fmt: skip

    assert (response.status, response.text) == ("completed", "I was first.")
    assert response.provider == "gemini"
    assert response.ensemble is not None
    assert len(response.ensemble.cancelled) == 2
    assert not response.cost_final
    await the_books_agree(pipeline, request_id)
    statuses = {row.status for row in pipeline.topics.ledger[request_id] if row.event == "spent"}
    assert statuses == {"completed", "cancelled"}

    async def broken_off() -> bool:
        lines = pipeline.simulator.ledger.lines()
        mine = [line for line in lines if line.label == "race"]
        return [line.ended for line in mine].count("client_gone") == 2

    await eventually(broken_off, "the broken-off calls")


@pytest.mark.parametrize(
    ("route", "expected", "decided_by"),
    [
        ({"mode": "vote"}, "yes", "vote"),
        ({"mode": "weighted", "weights": HEAVY_GEMINI}, "no", "weight"),
        ({"mode": "best_of", "judge": "gpt-4.1-mini"}, None, "judge"),
        ({"mode": "merge"}, "yes and no", "merge"),
        ({"mode": "chain"}, "at last", "refine"),
    ],
)  # fmt: skip
async def test_an_ensemble_in_each_of_its_modes(
    pipeline: Pipeline, route: dict[str, Any], expected: str | None, decided_by: str
) -> None:
    """Three models, and where the mode has one, a fourth call that decides."""
    commands = " ".join(
        (
            each_says(openai="yes", anthropic="Yes.", gemini="no"),
            say(JUDGING, '{"best": 3, "reason": "because"}'),
            say(MERGING, "yes and no"),
            say(REFINING, "at last"),
        )
    )
    request_id, response = await ask(
        pipeline, "ensemble", commands, route={"members": 3, "quorum": 3, **route}
    )

    assert response.status == "completed"
    verdict = response.ensemble
    assert verdict is not None
    assert (verdict.decided_by, verdict.answered, verdict.missing) == (decided_by, 3, ())
    if expected is None:
        assert response.attempts[2].provider == response.provider
    else:
        assert response.text.lower().rstrip(".") == expected
    await the_books_agree(pipeline, request_id)
    spent = [row for row in pipeline.topics.ledger[request_id] if row.event == "spent"]
    costs = [row.cost_usd for row in spent]
    assert None not in costs
    assert response.cost_usd == sum(cost for cost in costs if cost is not None)


async def test_a_vote_by_embedding_pays_for_vectors_and_books_them(pipeline: Pipeline) -> None:
    """Two answers mean the same in other words, and a third is the other way."""
    commands = each_says(
        openai="The mill race leads water to the wheel.",
        anthropic="Wind turns the sails of the mill on the hill.",
        gemini="To the wheel water leads the mill race.",
    )
    vote = {"vote_by": "embedding", "vote_similarity": 0.8, "embedder": "text-embedding-3-small"}
    request_id, response = await ask(
        pipeline, "ensemble", commands, stream=True, route={"members": 3, "quorum": 3, **vote}
    )

    assert response.status == "completed"
    assert response.ensemble is not None
    assert (response.ensemble.notes, response.ensemble.agreement) == ((), 0.666667)
    assert [response.attempts[each].provider for each in response.ensemble.dissenting] == [
        "anthropic"
    ]
    last = response.attempts[-1]
    assert (last.role, last.model, last.status) == ("embed", "text-embedding-3-small", "completed")
    assert {each.member for each in pipeline.topics.chunks[request_id]} == {0, 1, 2}
    await the_books_agree(pipeline, request_id)
    spent = [row for row in pipeline.topics.ledger[request_id] if row.event == "spent"]
    assert response.cost_usd == sum(row.cost_usd or 0 for row in spent)
    assert len(spent) == 4


@pytest.mark.parametrize(
    ("confidence", "commands", "tier"),
    [
        ("logprobs", "[[sim:probability=0.95]]", 0),
        ("logprobs", "[[sim:probability=0.2]]", 1),
        ("self_rating", say(RATING, '{"confidence": 0.9}'), 0),
        ("self_rating", say(RATING, '{"confidence": 0.1}'), 1),
        ("score", "", 0),
    ],
)
async def test_a_cascade_climbs_until_an_answer_is_trusted(
    pipeline: Pipeline, confidence: str, commands: str, tier: int
) -> None:
    """Readers of its stream are told what is void."""
    request_id, response = await ask(
        pipeline,
        "cascade",
        commands,
        stream=True,
        route={"confidence": confidence, "thresholds": [0.6], "providers": ["openai", "anthropic"]},
    )

    assert response.status == "completed"
    assert response.cascade is not None
    assert response.cascade.tier == tier, response
    assert response.cascade.sufficed
    chunks = pipeline.topics.chunks[request_id]

    def told() -> bool:
        last = [
            each
            for each in chunks
            if each.attempt
            == response.attempts[-1 - (response.attempts[-1].role == "rate")].attempt
        ]
        return "".join(each.delta for each in last) == response.text

    await pipeline.topics.until(told, "the whole stream")
    ends = [each.end for each in chunks if each.end is not None]
    assert ends.count("restarted") == tier
    await the_books_agree(pipeline, request_id)


@pytest.mark.parametrize("agree", [True, False])
async def test_two_cheap_models_that_agree_end_a_cascade(pipeline: Pipeline, agree: bool) -> None:
    """Else the dear one is asked."""
    names = ("openai", "gemini", "anthropic", "ollama")
    commands = each_says(**dict.fromkeys(names, "yes") if agree else {name: name for name in names})
    request_id, response = await ask(
        pipeline, "cascade", commands, route={"confidence": "agreement", "providers": []}
    )

    assert response.status == "completed"
    assert response.cascade is not None
    assert response.cascade.sufficed
    assert (len(response.attempts) == 2) is agree
    await the_books_agree(pipeline, request_id)


async def test_work_is_divided_done_side_by_side_and_combined(pipeline: Pipeline) -> None:
    """Into as many parts as the planner says."""
    parts = [{"title": f"Part {name}", "instructions": "Do it."} for name in ("one", "two")]
    commands = " ".join(
        (
            say(DIVIDING, json.dumps({"parts": parts})),
            say("Part: Part one", "first"),
            say("Part: Part two", "second"),
            say(COMBINING, "all of it"),
        )
    )
    request_id, response = await ask(pipeline, "delegate", commands, route={"max_parts": 3})

    assert (response.status, response.text) == ("completed", "all of it")
    assert [each.role for each in response.attempts] == ["plan", "part", "part", "combine"]
    assert response.ensemble is not None
    assert len(response.ensemble.skipped) == 1
    await the_books_agree(pipeline, request_id)


async def test_a_question_in_parts_is_answered_by_several(pipeline: Pipeline) -> None:
    """What is kept of it until all have answered can be read again."""
    body = request_body(
        fresh_id("in-parts"),
        route={"strategy": "ensemble", "providers": CLOUD, "members": 3, "quorum": 3},
    )
    parts = [{"type": "text", "text": "Look:"}, {"type": "text", "text": body.pop("prompt")}]
    await pipeline.send({**body, "messages": [{"role": "user", "content": parts}]})
    response = await pipeline.topics.response(body["request_id"])

    assert response.error is None or response.error.code == "quorum_not_reached"
    assert len(response.attempts) == 3
