"""Tokens on their way to the chunks topic."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_doubles import RecordingPublisher, until
from pipeline_records import make_call, make_job

from millrace.schemas.chunk import ToolCallDelta
from millrace.schemas.errors import BrokerError
from millrace.streams.chunk_stream import ChunkStream

LONG = 3600.0
"""A window that does not end within a test."""


def stream(
    publisher: RecordingPublisher, *, window: float = LONG, streamed: bool = True
) -> ChunkStream:
    """A stream of the first call of a request."""
    return ChunkStream(
        publisher=publisher,  # type: ignore[arg-type]
        topic="llm.chunks",
        call=make_call(make_job(stream=streamed)),
        invocation="i1",
        flush_seconds=window,
    )


async def test_the_first_token_goes_at_once_and_the_rest_waits_for_the_window() -> None:
    """What follows within the window is one chunk with what comes last."""
    publisher = RecordingPublisher()
    chunks = stream(publisher)
    await chunks.add(text="Be")
    await asyncio.sleep(0)
    for text in ("cau", "se"):
        await chunks.add(text=text)
        await asyncio.sleep(0)
    assert [each.delta for each in publisher.chunks] == ["Be"]

    await chunks.close("stop")

    assert [(each.sequence, each.delta, each.end) for each in publisher.chunks] == [
        (0, "Be", None),
        (1, "cause", "stop"),
    ]
    assert {each.key for each in publisher.written} == {b"r1"}


async def test_an_answer_that_comes_in_one_piece_is_one_chunk() -> None:
    """Its tokens and its end are there at the same time, so they are told at the same time."""
    publisher = RecordingPublisher()
    chunks = stream(publisher)
    for text in ("Be", "cau", "se"):
        await chunks.add(text=text)
    await chunks.close("stop")
    await asyncio.sleep(0)

    assert [(each.sequence, each.delta, each.end) for each in publisher.chunks] == [
        (0, "Because", "stop")
    ]


async def test_tokens_that_find_the_buffer_full_go_when_there_is_room() -> None:
    """In their order, with those that came meanwhile behind them."""
    publisher = RecordingPublisher()
    publisher.room.clear()
    chunks = stream(publisher)
    await chunks.add(text="a")
    for _ in range(3):
        await asyncio.sleep(0)
    await chunks.add(text="b")
    assert publisher.chunks == []
    publisher.room.set()

    await chunks.close("stop")

    assert "".join(each.delta for each in publisher.chunks) == "ab"
    assert [each.end for each in publisher.chunks][-1] == "stop"


async def test_the_window_sends_what_has_gathered() -> None:
    """Nobody has to close the stream for the second chunk to come."""
    publisher = RecordingPublisher()
    chunks = stream(publisher, window=0.001)
    await chunks.add(text="a")
    await until(lambda: len(publisher.chunks) == 1)
    await chunks.add(text="b")
    await chunks.add(text="c")

    await until(lambda: len(publisher.chunks) == 2)

    assert [each.delta for each in publisher.chunks] == ["a", "bc"]
    await chunks.close("stop")


async def test_without_a_window_each_delta_is_a_chunk() -> None:
    """A window of nothing gathers nothing."""
    publisher = RecordingPublisher()
    chunks = stream(publisher, window=0)
    for text in "abc":
        await chunks.add(text=text)
    await chunks.close("length")

    assert [each.delta for each in publisher.chunks] == ["a", "b", "c", ""]
    assert publisher.chunks[-1].end == "length"


async def test_a_request_that_asked_for_no_stream_gets_none() -> None:
    """Neither tokens nor an end."""
    publisher = RecordingPublisher()
    chunks = stream(publisher, streamed=False)
    await chunks.add(text="a")
    await chunks.close("stop")

    assert publisher.written == []


async def test_reasoning_and_tool_calls_travel_beside_the_text() -> None:
    """Pieces of tool calls keep their order."""
    publisher = RecordingPublisher()
    chunks = stream(publisher)
    await chunks.add(reasoning="hm")
    await asyncio.sleep(0)
    pieces = [ToolCallDelta(index=0, name="f"), ToolCallDelta(index=0, arguments="{}")]
    for piece in pieces:
        await chunks.add(tool_call=piece)
    await chunks.add(text="x")
    await chunks.close("stop")

    last = publisher.chunks[-1]
    assert publisher.chunks[0].reasoning == "hm"
    assert (last.delta, list(last.tool_calls)) == ("x", pieces)


async def test_nothing_comes_after_the_end() -> None:
    """A delta that arrives late, and a second close, are dropped."""
    publisher = RecordingPublisher()
    chunks = stream(publisher)
    await chunks.close("cancelled")
    await chunks.add(text="late")
    await chunks.close("stop")

    assert [each.end for each in publisher.chunks] == ["cancelled"]


async def test_a_flush_broken_off_while_the_buffer_is_full_leaves_no_gap() -> None:
    """The chunk that was not handed over goes with the next, under the same number."""
    publisher = RecordingPublisher()
    chunks = stream(publisher, window=0)
    await chunks.add(text="a")
    publisher.room.clear()
    adding = asyncio.create_task(chunks.add(text="b"))
    await asyncio.sleep(0)
    adding.cancel()
    await asyncio.wait((adding,))
    publisher.room.set()

    await chunks.close("cancelled")

    assert [(each.sequence, each.delta) for each in publisher.chunks] == [(0, "a"), (1, "b")]


async def test_a_broker_that_refuses_is_heard_of() -> None:
    """The error of a write that was made by the window comes at the close."""
    publisher = RecordingPublisher()
    chunks = stream(publisher, window=0.001)
    await chunks.add(text="a")
    await until(lambda: len(publisher.chunks) == 1)
    publisher.failure = BrokerError("no")
    await chunks.add(text="b")

    with pytest.raises(BrokerError):
        await chunks.close("stop")


@given(
    steps=st.lists(st.tuples(st.text(max_size=5), st.booleans()), max_size=25),
    window=st.sampled_from([0.0, 0.0005, LONG]),
)
@settings(max_examples=40, deadline=None)
def test_chunks_are_gapless_and_whole_whatever_the_pace(
    steps: list[tuple[str, bool]], window: float
) -> None:
    """Numbers run from 0, the deltas joined are the text, and only the last one has an end."""

    async def run() -> RecordingPublisher:
        publisher = RecordingPublisher()
        chunks = stream(publisher, window=window)
        for text, yields in steps:
            await chunks.add(text=text)
            if yields:
                await asyncio.sleep(0)
        await chunks.close("stop")
        assert len(chunks.deliveries) == len(publisher.chunks)
        return publisher

    chunks = asyncio.run(run()).chunks

    assert [each.sequence for each in chunks] == list(range(len(chunks)))
    assert "".join(each.delta for each in chunks) == "".join(text for text, _ in steps)
    assert [each.end for each in chunks] == [None] * (len(chunks) - 1) + ["stop"]
