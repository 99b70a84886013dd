"""Lines of JSON become requests, or are named by their number."""

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.schemas.request import Request
from millrace.streams.cli.request_lines import (
    BadLine,
    Outgoing,
    read_raw,
    read_requests,
    requests_of,
)


def _read(text: bytes) -> list[Outgoing | BadLine]:
    return list(read_requests(requests_of(text), new_id=lambda: "made"))


def test_one_request_may_be_written_over_several_lines() -> None:
    """As in the documentation; several are one a line, and a list of them is none."""
    (whole,) = _read(b'\xef\xbb\xbf{"prompt": "a",\n "route":\n {"members": 2}}\n')
    bad = _read(b'{"prompt": "a",\n "colour": 1}')
    several = _read(b'[{"prompt": "a"},\n {"prompt": "b"}]')

    assert isinstance(whole, Outgoing)
    assert orjson.loads(whole.value)["route"] == {"members": 2}
    assert [type(each) for each in bad] == [BadLine]
    assert [type(each) for each in several] == [BadLine, BadLine]


def test_a_request_keeps_its_id_and_one_without_is_given_one() -> None:
    """Blank lines count, and are passed over."""
    first, second = _read(b'{"prompt": "a", "request_id": "mine"}\n\n{"prompt": "b"}\r\n')

    assert isinstance(first, Outgoing)
    assert isinstance(second, Outgoing)
    assert (first.request_id, first.key, first.line) == ("mine", b"mine", 1)
    assert (second.request_id, second.key, second.line) == ("made", b"made", 3)


def test_what_a_request_leaves_unsaid_stays_unsaid() -> None:
    """Templates fill in what is unsaid, so defaults must not be written out."""
    (request,) = _read(b'{"request_id": "1", "template": "general", "output": {"format": "text"}}')

    assert isinstance(request, Outgoing)
    expected = {"request_id": "1", "template": "general", "output": {"format": "text"}}
    assert expected == orjson.loads(request.value)


def test_a_conversation_is_the_key() -> None:
    """Its requests keep their order."""
    (request,) = _read(b'{"prompt": "a", "conversation_id": "talk"}')

    assert isinstance(request, Outgoing)
    assert request.key == b"talk"


def test_bad_lines_are_named_with_the_field_but_not_its_value() -> None:
    """Neighbours are not harmed."""
    found = _read(
        b'{"prompt": "a"}\nnot json\n{"prompt": "b", "colour": "secret"}\n{"prompt": "c"}'
    )

    bad = [line for line in found if isinstance(line, BadLine)]
    assert [line.line for line in bad] == [2, 3]
    assert "colour" in bad[1].problem
    assert "secret" not in bad[1].problem


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    """As editors leave one."""
    assert isinstance(_read(b'\xef\xbb\xbf{"prompt": "a"}')[0], Outgoing)


def test_raw_lines_go_as_they_are_with_what_key_can_be_read() -> None:
    """For trying what the pipeline does with bad ones."""
    lines = [b"not json", b'{"request_id": "x", "prompt": ""}', b'{"request_id": 7}', b"\xff"]

    found = list(read_raw(lines))

    assert lines == [line.value for line in found]
    assert [line.key for line in found] == [None, b"x", None, None]
    assert not any(line.checked for line in found)


@given(
    prompt=st.text(min_size=1, max_size=200),
    team=st.none() | st.text(min_size=1, max_size=20),
    tags=st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3),
)
@settings(max_examples=50)
def test_a_request_is_sent_as_it_was_written(
    prompt: str, team: str | None, tags: dict[str, str]
) -> None:
    """Whatever text is in it."""
    written = Request(request_id="1", prompt=prompt, team=team, tags=tags)

    (found,) = read_requests([written.encode()], new_id=lambda: "made")

    assert isinstance(found, Outgoing)
    assert written == Request.decode(found.value)
