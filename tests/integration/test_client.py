"""The Python client against a running pipeline."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from pipeline_under_test import Pipeline, fresh_id

from millrace.client import BlockingMillrace, Millrace, Piece
from millrace.providers.simulator.ledger import LedgerFilter
from millrace.schemas.errors import NoReplyError, RequestNotCompletedError
from millrace.schemas.vocabulary import EnsembleMode
from millrace.streams.topics import TopicNames

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(pipeline: Pipeline) -> AsyncIterator[Millrace]:
    """One client for the tests of a broker."""
    async with Millrace(pipeline.settings.kafka) as connected:
        yield connected


def told(label: str, more: str = "") -> str:
    """A prompt that the simulator's ledger shows under a label."""
    return f'Tell me about mills. [[sim:label="{label}" {more}]]'


async def test_complete_returns_the_terminal_record(client: Millrace) -> None:
    """Text, usage and cost of one request."""
    response = await client.complete(
        "Why is the sky blue?", task="reasoning", team="physics", tags={"n": "1"}
    )
    assert response.text
    assert (response.status, response.team, response.tags) == ("completed", "physics", {"n": "1"})
    assert response.usage is not None


async def test_the_pieces_of_a_stream_are_the_text(client: Millrace) -> None:
    """In order, and before the end is known."""
    async with await client.stream("Tell me about mills. [[sim:tokens=20 pace=200]]") as answer:
        pieces = [piece async for piece in answer]
        response = await answer.completed()
    assert len(pieces) > 1
    assert "".join(piece.delta for piece in pieces) == response.text
    assert [piece.end for piece in pieces if piece.end] == ["stop"]


async def test_two_hundred_requests_at_once_get_each_its_own_answer(client: Millrace) -> None:
    """Through one consumer."""
    labels = [fresh_id("many") for _ in range(200)]

    async def ask(label: str) -> str:
        async with await client.stream(told(label, f'answer="{label} it is"')) as answer:
            return "".join([text async for text in answer.text()])

    texts = await asyncio.gather(*map(ask, labels))
    assert texts == [f"{label} it is" for label in labels]


async def test_a_request_that_fails_is_an_error_with_its_record(client: Millrace) -> None:
    """What was spent is known all the same."""
    with pytest.raises(RequestNotCompletedError, match="ended as") as caught:
        await client.complete(
            told(fresh_id("refused"), "http=400"), route={"strategy": "cloud_only"}
        )
    assert caught.value.response is not None
    assert caught.value.response.status == "failed"


async def test_a_fallback_midway_starts_over(client: Millrace) -> None:
    """The piece that begins the second attempt says that the text so far is void."""
    prompt = told(fresh_id("broken"), "cut after=5 only=openai")
    route = {"strategy": "cloud_only", "prefer_providers": ["openai"]}
    text = ""
    async with await client.stream(prompt, route=route) as answer:
        async for piece in answer:
            text = piece.delta if piece.starts_over else text + piece.delta
        response = await answer.completed()
    assert [each.status for each in response.attempts] == ["failed", "completed"]
    assert text == response.text


async def test_who_leaves_cancels_the_work(pipeline: Pipeline, client: Millrace) -> None:
    """Nobody pays for tokens that nobody reads."""
    label = fresh_id("left")
    async with await client.stream(told(label, "slow"), provider="openai") as answer:
        await anext(answer)
    await pipeline.simulator.ledger.until(
        lambda ledger: any(
            line.ended == "client_gone" for line in ledger.lines(LedgerFilter(label=label))
        )
    )


async def test_a_cancelled_task_cancels_its_request(pipeline: Pipeline, client: Millrace) -> None:
    """As when the service's own caller hangs up."""
    began = datetime.now(UTC) - timedelta(seconds=5)
    request_id = fresh_id("hung-up")
    work = client.complete(told(request_id, "hang"), request_id=request_id, provider="openai")
    task = asyncio.create_task(work)
    await pipeline.simulator.ledger.until(
        lambda ledger: any(
            line.ended == "hung" for line in ledger.lines(LedgerFilter(label=request_id))
        )
    )
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    async with await client.follow(request_id, since=began, timeout_seconds=30) as answer:
        assert (await answer.response()).status == "cancelled"


async def test_a_stream_is_resumed_by_another_client_where_it_was_left(
    pipeline: Pipeline, client: Millrace
) -> None:
    """A process dies; the next one goes on behind the last piece that was taken."""
    began = datetime.now(UTC) - timedelta(seconds=5)
    request_id = fresh_id("resumed")
    answer = await client.stream(
        told(request_id, 'slow answer="one two three four five"'), request_id=request_id
    )
    had: list[Piece] = [await anext(answer), await anext(answer), await anext(answer)]
    position = answer.position
    async with Millrace(pipeline.settings.kafka, listen_partitions=1) as other:
        followed = await other.follow(request_id, since=began, after=position)
        had += [piece async for piece in followed]
        response = await followed.completed()
    assert "".join(piece.delta for piece in had) == response.text
    await answer.response()


async def test_a_request_sent_again_after_a_crash_finds_its_answer(
    pipeline: Pipeline, client: Millrace
) -> None:
    """Without being paid for again."""
    began = datetime.now(UTC) - timedelta(seconds=5)
    request_id = fresh_id("again")
    first = await client.complete(
        told(request_id), request_id=request_id, deadline=began + timedelta(minutes=5)
    )
    async with Millrace(pipeline.settings.kafka) as restarted:
        again = await restarted.complete(
            told(request_id),
            request_id=request_id,
            deadline=began + timedelta(minutes=5),
            since=began,
        )
    assert again == first
    assert len(pipeline.paid(request_id)) == 1


async def test_a_client_that_listens_to_few_partitions_hears_its_answers(
    pipeline: Pipeline,
) -> None:
    """Ids that it makes fall on them; for ids that it is given it listens to more."""
    async with Millrace(pipeline.settings.kafka, listen_partitions=1) as narrow:
        given = [fresh_id("given") for _ in range(6)]
        responses = await asyncio.gather(
            *(narrow.complete(told("made")) for _ in range(6)),
            *(narrow.complete(told(each), request_id=each) for each in given),
        )
    assert [each.request_id for each in responses[6:]] == given
    assert all(each.status == "completed" for each in responses)


async def test_an_ensemble_joins_several_models(client: Millrace) -> None:
    """The cost of all is in the one answer."""
    response = await client.ensemble(told(fresh_id("voted"), 'answer="42"'), members=3)
    assert response.ensemble is not None
    assert (response.text, response.ensemble.answered) == ("42", 3)


@pytest.mark.parametrize(
    ("mode", "route", "decided_by"),
    [
        ("vote", {"vote_by": "exact"}, "vote"),
        ("weighted", {"weights": {"gpt-4.1-mini": 9.0}}, "weight"),
        ("best_of", {"judge": "gpt-4.1-mini"}, "judge"),
        ("merge", {}, "merge"),
        ("chain", {}, "refine"),
    ],
)
async def test_each_mode_of_an_ensemble_can_be_asked_for(
    client: Millrace, mode: EnsembleMode, route: dict[str, Any], decided_by: str
) -> None:
    """What the mode needs besides stands in `route`."""
    later = {
        "Judge which": '{"best": 1, "reason": "because"}',
        "Write the one answer": "yes",
        "Give the improved answer": "yes",
    }
    commands = " ".join(
        f"[[sim:where={json.dumps(where)} answer={json.dumps(answer)}]]"
        for where, answer in later.items()
    )
    prompt = f"{told(fresh_id(mode), 'answer=yes')} {commands}"
    response = await client.ensemble(prompt, members=2, mode=mode, route=route)
    assert response.ensemble is not None
    assert (response.ensemble.mode, response.ensemble.decided_by) == (mode, decided_by)
    assert response.text == "yes"


async def test_divided_work_comes_back_as_one_answer(client: Millrace) -> None:
    """The planner's call, the parts' and the combining one are in its attempts and its cost."""
    planned = json.dumps({"parts": [{"title": n, "instructions": "Do it."} for n in ("A", "B")]})
    commands = " ".join(
        f"[[sim:where={json.dumps(where)} answer={json.dumps(answer)}]]"
        for where, answer in (
            ("Divide the work on it", planned),
            ("Part: ", "a part"),
            ("Write the answer to the request", "the whole"),
        )
    )
    response = await client.delegate(f"Tell me about mills. {commands}", max_parts=3)
    assert response.text == "the whole"
    assert [each.role for each in response.attempts] == ["plan", "part", "part", "combine"]


async def test_a_thousand_requests_may_be_open_at_once(
    pipeline: Pipeline, client: Millrace
) -> None:
    """Each stream is whole, and none is mistaken for another's."""
    label = fresh_id("thousand")

    async def ask(number: int) -> str:
        prompt = f'Number {number}. [[sim:label="{label}" answer="{number} it is"]]'
        async with await client.stream(prompt, timeout_seconds=90) as answer:
            return "".join([text async for text in answer.text()])

    texts = await asyncio.gather(*map(ask, range(1_000)))
    assert texts == [f"{number} it is" for number in range(1_000)]
    lines = pipeline.simulator.ledger.lines(LedgerFilter(label=label))
    assert sum(1 for _ in lines) == 1_000


async def test_a_slow_reader_holds_nobody_up_and_misses_nothing(client: Millrace) -> None:
    """Its pieces wait for it, while others begin and end."""
    async with await client.stream(told(fresh_id("slow"), "tokens=200")) as slow:
        first = await anext(slow)
        others = [await client.complete(told(fresh_id("quick"))) for _ in range(3)]
        response = await slow.response()
        rest = [piece async for piece in slow]
    assert {each.status for each in others} == {"completed"}
    assert "".join(piece.delta for piece in (first, *rest)) == response.text


async def test_no_reply_in_time_is_an_error_that_says_what_to_look_at(
    pipeline: Pipeline, client: Millrace
) -> None:
    """Nobody works on a request of which only the client knows."""
    answer = await client.follow("nobody-knows", since=datetime.now(UTC), timeout_seconds=0.2)
    with pytest.raises(NoReplyError, match="millrace check"):
        await answer.response()
    await answer.aclose()
    assert TopicNames(pipeline.settings.kafka.topic_prefix).responses


async def test_code_without_an_event_loop_asks_as_well(pipeline: Pipeline) -> None:
    """From a thread of its own."""

    def ask() -> tuple[str, str]:
        with BlockingMillrace(pipeline.settings.kafka) as client:
            with client.stream("Tell me about mills.") as answer:
                text = "".join(piece.delta for piece in answer)
                streamed = answer.completed()
            assert text == streamed.text
            return client.complete("And about weirs?").status, streamed.status

    assert await asyncio.to_thread(ask) == ("completed", "completed")
