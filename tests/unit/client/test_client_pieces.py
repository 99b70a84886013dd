"""Chunks in, pieces out: once each, in order, none of a void attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.client.pieces import Position, Sequencer
from millrace.schemas.chunk import Chunk
from millrace.schemas.errors import StreamGapError


def chunk(sequence: int, *, attempt: int = 1, invocation: str = "a", member: int = 0) -> Chunk:
    return Chunk(
        request_id="r",
        member=member,
        attempt=attempt,
        invocation=invocation,
        sequence=sequence,
        delta=f"{invocation}{sequence} ",
        provider="p",
        model="m",
    )


def taken(sequencer: Sequencer, *chunks: Chunk) -> list[str]:
    return [piece.delta for each in chunks if (piece := sequencer.take(each)) is not None]


def test_a_stream_read_twice_is_given_once() -> None:
    """A rewound consumer reads again what it has read."""
    sequencer = Sequencer()
    stream = [chunk(number) for number in range(4)]
    assert taken(sequencer, *stream, *stream, chunk(4)) == ["a0 ", "a1 ", "a2 ", "a3 ", "a4 "]


def test_a_missing_chunk_is_an_error_that_says_which() -> None:
    """Text with a hole in it would look whole."""
    sequencer = Sequencer()
    sequencer.take(chunk(0))
    with pytest.raises(StreamGapError, match="goes on at chunk 2, and 1 was expected"):
        sequencer.take(chunk(2))


def test_an_attempt_made_again_starts_over() -> None:
    """Its caller was killed; what it said is void, and so are its last words."""
    sequencer = Sequencer()
    first = [chunk(0), chunk(1)]
    taken(sequencer, *first)
    again = sequencer.take(chunk(0, invocation="b"))
    assert again is not None
    assert again.starts_over
    assert sequencer.take(chunk(2)) is None
    following = sequencer.take(chunk(1, invocation="b"))
    assert following is not None
    assert not following.starts_over


def test_an_earlier_attempt_is_not_gone_back_to() -> None:
    """The next candidate has begun; late chunks of the first say nothing any more."""
    sequencer = Sequencer()
    taken(sequencer, chunk(0), chunk(0, attempt=2, invocation="b"))
    assert sequencer.take(chunk(1)) is None
    assert sequencer.take(chunk(0, attempt=1, invocation="c")) is None


@given(
    members=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    data=st.data(),
)
def test_whatever_is_repeated_each_piece_of_the_last_attempt_comes_once(
    members: int, lengths: list[int], data: st.DataObject
) -> None:
    """For any interleaving of members, and any rewinds, also across a resumed position."""
    streams = [
        [
            chunk(number, attempt=attempt, invocation=f"{member}.{attempt}.", member=member)
            for attempt, length in enumerate(lengths, start=1)
            for number in range(length)
        ]
        for member in range(members)
    ]
    topic: list[Chunk] = []
    left = [list(stream) for stream in streams]
    while any(left):
        at = data.draw(st.sampled_from([n for n, stream in enumerate(left) if stream]))
        topic.append(left[at].pop(0))
    stop = data.draw(st.integers(0, len(topic)))
    back = data.draw(st.integers(0, stop))
    sequencer = Sequencer()
    given_out = [p for each in topic[:stop] if (p := sequencer.take(each)) is not None]
    marks = {piece.member: piece.mark for piece in given_out}
    resumed = Sequencer(
        Position.model_validate_json(Position(marks=tuple(marks.values())).model_dump_json())
    )
    given_out += [p for each in topic[back:] if (p := resumed.take(each)) is not None]
    for member in range(members):
        mine = [piece.delta for piece in given_out if piece.member == member]
        assert mine == [each.delta for each in streams[member]]
