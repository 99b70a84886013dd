"""What the demo finds fault with."""

from datetime import UTC, datetime
from typing import Any

import pytest

from millrace.schemas.chunk import Chunk
from millrace.schemas.dead_letter import Blob, DeadLetter
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.response import Response
from millrace.streams.cli.demo_findings import findings
from millrace.streams.cli.demo_lines import SentLine, read_lines
from millrace.streams.cli.demo_recording import Recording
from millrace.streams.cli.follow import Sent
from millrace.streams.topics import TopicNames

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = b'{"request_id": "a", "prompt": "x", "stream": true}'
BAD = b'{"request_id": "b", "prompt": ""}'


def sent(*contents: bytes) -> list[SentLine]:
    """Lines that lie on the topic, one after another."""
    return [
        SentLine(
            line=line,
            sent=Sent(request_id="", line=number, topic="t", partition=0, offset=number),
        )
        for number, line in enumerate(read_lines(contents), 1)
    ]


def response(request_id: str, **fields: Any) -> Response:
    """A terminal record."""
    plain: dict[str, Any] = {"status": "completed", "text": "yes", "completed_at": NOW}
    return Response(request_id=request_id, **{**plain, **fields})


def chunk(sequence: int, delta: str, **fields: Any) -> Chunk:
    """A piece of the answer to `a`."""
    plain: dict[str, Any] = {"invocation": "i1", "provider": "p", "model": "m"}
    return Chunk(request_id="a", sequence=sequence, delta=delta, **{**plain, **fields})


def letter(offset: int, value: bytes) -> DeadLetter:
    """A record that was set aside."""
    return DeadLetter(
        topic="t",
        partition=0,
        offset=offset,
        value=Blob.of(value),
        error=ErrorInfo(code="invalid_request", message="no"),
        dead_at=NOW,
    )


def recording(*, ends: list[Response], chunks: list[Chunk], letters: list[DeadLetter]) -> Recording:
    """What the topics say."""
    found = Recording(names=TopicNames())
    for end in ends:
        found.responses[end.request_id].append(end)
    for piece in chunks:
        found.chunks[piece.request_id].append(piece)
    for dead in letters:
        found.dead_letters[(dead.topic, dead.partition, dead.offset)] = dead
    return found


WHOLE = [chunk(0, "ye"), chunk(1, "s", end="stop")]
REJECTED = response("b", status="rejected", text="")


def test_a_good_run_has_no_fault() -> None:
    """Each line has the one end it is meant to have."""
    found = recording(ends=[response("a"), REJECTED], chunks=WHOLE, letters=[letter(2, BAD)])

    assert findings(found, sent(GOOD, BAD)) == []


def test_a_restarted_stream_counts_from_its_last_beginning() -> None:
    """What came before is void."""
    begun = [chunk(0, "n", invocation="i0"), chunk(1, "o", invocation="i0", end="restarted")]
    found = recording(ends=[response("a")], chunks=[*begun, *WHOLE], letters=[])

    assert findings(found, sent(GOOD)) == []


@pytest.mark.parametrize(
    ("ends", "chunks", "letters", "fault"),
    [
        ([], WHOLE, [], "has 0 terminal records"),
        ([response("a"), response("a")], WHOLE, [], "has 2 terminal records"),
        ([response("a", status="failed")], WHOLE, [], "ended as failed, not completed"),
        ([response("a")], [], [], "there is no chunk"),
        ([response("a")], WHOLE[1:], [], "without gaps"),
        ([response("a")], WHOLE[:1], [], "its last chunk ends as None"),
        ([response("a", text="no")], WHOLE, [], "are not the text"),
        ([response("a")], WHOLE, [letter(1, GOOD)], "was set aside"),
        ([response("a")], WHOLE, [letter(9, GOOD)], "a dead letter for t 0@9"),
        ([response("a"), response("z")], WHOLE, [], "which nobody sent"),
    ],
)
def test_a_fault_with_a_good_line_is_named(
    ends: list[Response], chunks: list[Chunk], letters: list[DeadLetter], fault: str
) -> None:
    """Missing, doubled and wrong ends, broken streams, and records of nobody."""
    (found,) = findings(recording(ends=ends, chunks=chunks, letters=letters), sent(GOOD))

    assert fault in found


@pytest.mark.parametrize(
    ("letters", "fault"),
    [([], "there is no dead letter"), ([letter(1, GOOD)], "does not hold the bytes")],
)
def test_a_bad_line_must_be_kept_whole(letters: list[DeadLetter], fault: str) -> None:
    """A dead letter that is missing, or holds other bytes."""
    (found,) = findings(recording(ends=[REJECTED], chunks=[], letters=letters), sent(BAD))

    assert fault in found


@pytest.mark.parametrize(
    ("vectors", "fault"),
    [
        (((0.5, 1.0), (1.0, 0.5)), None),
        (((0.5, 1.0),), "1 vectors of [2] numbers for 2 inputs"),
        ((), "0 vectors of [] numbers for 2 inputs"),
        (((0.5, 1.0), (1.0,)), "2 vectors of [1, 2] numbers"),
        (((0.5,), (1.0,)), "2 vectors of [1] numbers"),
    ],
)
def test_vectors_must_be_as_many_and_as_long_as_was_asked(
    vectors: tuple[tuple[float, ...], ...], fault: str | None
) -> None:
    """One for each text."""
    asked = b'{"request_id": "a", "inputs": ["x", "y"], "dimensions": 2}'
    end = response("a", text="", embeddings=vectors)
    found = findings(recording(ends=[end], chunks=[], letters=[]), sent(asked))

    assert [each for each in found if fault is None or fault not in each] == []
    assert bool(found) is (fault is not None)
