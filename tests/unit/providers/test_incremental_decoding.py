"""Server-sent events and lines from bytes cut anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.wires.frames import EventFrames, LineFrames
from millrace.providers.wires.lines import LineDecoder, SseDecoder
from millrace.schemas.errors import ReplyInvalidError

_BIG = 10**6
_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
_LINE = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=12)
_cuts = st.lists(st.integers(0, 400), max_size=40)


def _pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    return [body[a:b] for a, b in pairwise(bounds)]


@settings(max_examples=150)
@given(lines=st.lists(st.tuples(_LINE, _ENDS), max_size=12), rest=_LINE, cuts=_cuts)
def test_lines_are_the_same_wherever_the_bytes_are_cut(
    lines: list[tuple[str, bytes]], rest: str, cuts: list[int]
) -> None:
    """LF, CRLF and CR each end a line once, also where a cut falls inside CRLF or UTF-8."""
    body = b"".join(line.encode() + end for line, end in lines) + rest.encode()
    decoder = LineDecoder(max_bytes=_BIG)
    # The reference: read the body whole, the standard's way.
    expected = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")

    found = [line for piece in _pieces(body, cuts) for line in decoder.feed(piece)]

    assert [*found, decoder.close()] == expected


def _reference_events(body: str) -> list[str]:
    """The WHATWG algorithm, written for plainness."""
    events, data = [], []
    text = body.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n")[:-1]:
        if not line:
            if data:
                events.append("\n".join(data))
            data = []
            continue
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
    return events


_SSE_LINE = st.one_of(
    st.just(""),
    _LINE.map("data:{}".format),
    _LINE.map("data: {}".format),
    _LINE.map(":{}".format),
    st.sampled_from(["data", "event: error", "id: 7", "retry: 10", "datax: 1", " data: 2"]),
)


@settings(max_examples=200)
@given(lines=st.lists(st.tuples(_SSE_LINE, _ENDS), max_size=14), bom=st.booleans(), cuts=_cuts)
def test_events_are_what_the_standard_says_wherever_the_bytes_are_cut(
    lines: list[tuple[str, bytes]], bom: bool, cuts: list[int]
) -> None:
    """Multi-line data, comments, unknown fields and a byte order mark, in any pieces."""
    text = ("\ufeff" if bom else "") + "".join(line + end.decode() for line, end in lines)
    decoder = SseDecoder(max_bytes=_BIG)

    found = [
        data.decode() for piece in _pieces(text.encode(), cuts) for data in decoder.feed(piece)
    ]

    assert found == _reference_events(text)


class LineByLine(SseDecoder):
    """Reads also what is nothing but whole events line by line."""

    __slots__ = ()

    def _whole_events(self, piece: bytes) -> None:  # noqa: ARG002 (the decoder's)
        return None


@settings(max_examples=300)
@given(
    pieces=st.lists(
        st.lists(
            st.sampled_from(
                [b"data: {}\n\n", b"data: ab\n\n", b"data: \n\n", b"data:c\n\n", b"\n", b"\n\n",
                 b"data: d\n", b": e\n\n", b"\r\n", b"event: f\n", b"data: g", b"\xef\xbb\xbf"]
            ),
            max_size=5,
        ).map(b"".join),
        max_size=5,
    )
)  # fmt: skip
def test_whole_events_are_what_they_are_line_by_line(pieces: list[bytes]) -> None:
    """Whatever came before them, and whatever they are cut into."""
    quick, slow = SseDecoder(max_bytes=9), LineByLine(max_bytes=9)

    def told(decoder: SseDecoder) -> list[bytes | str]:
        found: list[bytes | str] = []
        try:
            for piece in pieces:
                found += decoder.feed(piece)
            found += decoder.close()
        except ReplyInvalidError as error:
            found.append(error.message)
        return found

    assert told(quick) == told(slow)


@settings(max_examples=60)
@given(bodies=st.lists(st.binary(max_size=30), max_size=8))
def test_no_bytes_whatsoever_upset_the_decoders(bodies: list[bytes]) -> None:
    """What is no event stream gives no error here, and nothing is given twice."""
    for decoder in (SseDecoder(max_bytes=_BIG), EventFrames(max_bytes=_BIG)):
        fed = [data for piece in bodies for data in decoder.feed(piece)] + decoder.close()
        assert sum(map(len, fed)) <= sum(map(len, bodies))


def test_an_event_without_its_blank_line_is_given_at_the_end() -> None:
    """Some vendors end their stream without the last blank line, or without a line end."""
    decoder = SseDecoder(max_bytes=_BIG)

    assert decoder.feed(b"data: a\n\ndata: b") == [b"a"]
    assert decoder.close() == [b"b"]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_line_longer_than_allowed_is_refused(size: int) -> None:
    """Memory is bounded whatever the pieces."""
    decoder = LineDecoder(max_bytes=100)

    for _ in range(100 // size):
        assert decoder.feed(b"x" * size) == []

    with pytest.raises(ReplyInvalidError, match="100 bytes"):
        decoder.feed(b"x" * size)


def test_data_lines_that_add_up_to_more_than_allowed_are_refused() -> None:
    """An event is bounded too, not only each of its lines."""
    decoder = SseDecoder(max_bytes=100)

    with pytest.raises(ReplyInvalidError):
        decoder.feed(b"data: 123456789\n" * 11)


def test_a_long_line_in_tiny_pieces_is_joined_once() -> None:
    """A megabyte in pieces of 5 bytes comes back whole, and soon: no work is repeated."""
    decoder = LineDecoder(max_bytes=2**21)
    for _ in range(200_000):
        assert decoder.feed(b"abcde") == []

    assert decoder.feed(b"\n") == [b"abcde" * 200_000]


@settings(max_examples=60)
@given(
    blanks=st.text("\r\n \t", max_size=6),
    document=st.sampled_from(['{"a": "é\\n"}', "[1, 2]", '{\n "data": 1\n}']),
    cuts=_cuts,
)
def test_a_body_that_begins_like_json_is_one_document(
    blanks: str, document: str, cuts: list[int]
) -> None:
    """Blank lines before it are keep-alives; line ends inside it do not matter."""
    frames = EventFrames(max_bytes=_BIG)

    found = [p for piece in _pieces((blanks + document).encode(), cuts) for p in frames.feed(piece)]

    assert found == []
    assert frames.whole
    assert frames.close() == [document.encode()]


def test_a_document_longer_than_allowed_is_refused() -> None:
    """A whole reply is bounded as a line is."""
    frames = EventFrames(max_bytes=100)
    frames.feed(b"{" + b" " * 90)

    with pytest.raises(ReplyInvalidError):
        frames.feed(b" " * 20)


def test_blank_lines_between_json_lines_are_no_payload() -> None:
    """The last line may lack its end."""
    frames = LineFrames(max_bytes=_BIG)

    assert frames.feed(b'\n{"a":1}\r\n  \n{"b"') == [b'{"a":1}']
    assert frames.feed(b":2}") == []
    assert frames.close() == [b'{"b":2}']
