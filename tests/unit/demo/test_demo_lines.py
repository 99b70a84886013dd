"""What each line of the demo's input is meant to come to."""

import json

import pytest

from millrace.schemas.ids import request_id_at
from millrace.streams.cli.demo_lines import SentLine, read_lines
from millrace.streams.cli.follow import Sent


def line(**body: object) -> bytes:
    """A request as a line."""
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        (line(prompt="x"), "completed"),
        (line(prompt="x", tags={"expect": "failed"}), "failed"),
        (line(prompt="x", tags={"expect": "fame"}), "completed"),
        (line(prompt=""), "rejected"),
        (line(prompt="x", task="poetry"), "rejected"),
        (b"not json", "set_aside"),
        (b"[1]", "set_aside"),
        (b"\xff", "set_aside"),
    ],
)
def test_a_line_is_meant_as_it_says(content: bytes, meant: str) -> None:
    """Bad bytes are set aside, bad requests rejected, others end as their tag says."""
    (found,) = read_lines([content])

    assert found.meant == meant


def test_a_line_sent_again_is_a_duplicate_or_a_conflict() -> None:
    """The same content under an id is the same request, whatever the order of its fields."""
    lines = read_lines(
        [
            line(request_id="a", prompt="x"),
            line(prompt="x", request_id="a"),
            line(request_id="a", prompt="y"),
            line(request_id="b", prompt="x"),
        ]
    )

    assert [each.meant for each in lines] == ["completed", "duplicate", "conflict", "completed"]


def test_a_rejected_id_may_be_used_again() -> None:
    """An id whose request was bad is not taken."""
    lines = read_lines([line(request_id="a", prompt=""), line(request_id="a", prompt="y")])

    assert [each.meant for each in lines] == ["rejected", "completed"]


def test_a_line_without_an_id_goes_by_its_place() -> None:
    """The derived id is the one that the pipeline derives."""
    (found,) = read_lines([line(prompt="x")])
    sent = Sent(request_id="", line=1, topic="llm.requests", partition=2, offset=7)

    assert SentLine(line=found, sent=sent).request_id == request_id_at("llm.requests", 2, 7)
