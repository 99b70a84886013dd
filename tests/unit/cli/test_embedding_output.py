"""Requests for vectors on the command line."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from millrace.schemas.errors import ConfigurationError
from millrace.schemas.response import Response
from millrace.streams.cli.record_lines import record_line
from millrace.streams.cli.request_options import request_tree, single_request
from millrace.streams.cli.transcript import Transcript
from millrace.streams.dead_letters import RawRecord

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOTHING: dict[str, Any] = {
    "prompt": None, "inputs": [], "dimensions": None, "task": None, "template": None,
    "variables": [], "models": [], "providers": [], "strategy": None, "members": None,
    "hardware": None, "private": False, "max_cost": None, "max_tokens": None, "temperature": None,
    "schema": None, "now": NOW,
}  # fmt: skip


def line(kind: str, **fields: Any) -> str:
    """A record as `millrace watch` shows it."""
    value = orjson.dumps(fields)
    return record_line(RawRecord(f"llm.{kind}", 0, 7, NOW, None, value, ()), kind=kind)


def shown(*vectors: tuple[float, ...]) -> str:
    """What is written of an answer."""
    written: list[str] = []
    Transcript(write=written.append, inline=True).response(
        Response(request_id="1", status="completed", embeddings=vectors, completed_at=NOW)
    )
    return "".join(written)


def test_options_make_a_request_for_vectors() -> None:
    """Each `--embed` is one text."""
    tree = request_tree(**NOTHING | {"inputs": ["a", "b"], "dimensions": 3, "models": ["m"]})
    request = single_request(tree)

    assert (request.inputs, request.dimensions) == (("a", "b"), 3)
    assert request.route.models == ("m",)


def test_options_that_do_not_go_together_are_named() -> None:
    """As on the topic."""
    with pytest.raises(ConfigurationError, match="leave out stream, parameters"):
        single_request(
            request_tree(**NOTHING | {"inputs": ["a"], "stream": True, "temperature": 0.5})
        )


def test_an_answer_says_how_many_vectors_there_are_and_how_the_first_begins() -> None:
    """Thousands of numbers help nobody on a terminal."""
    assert shown((0.123456, -1.0, 0.5, 2e-05, 0.25), (1.0, 0.0, 0.0, 0.0, 0.0)) == (
        "2 vectors of 5 numbers: [0.1235, -1, 0.5, 2e-05, …]\n1: completed\n"
    )
    assert shown((0.5,)) == "1 vector of 1 numbers: [0.5]\n1: completed\n"


def test_records_of_vectors_are_one_short_line() -> None:
    """Requests, outcomes and responses."""
    assert line("requests", request_id="1", inputs=["a mill", "b"]).endswith(
        "1  general  2 to embed: a mill"
    )
    ended = {"request_id": "1", "status": "completed", "embeddings": [[0.5] * 900] * 2}
    assert line("responses", **ended).endswith("1  completed  2 vectors of 900 numbers")
    call = {
        "job": {"request_id": "1"},
        "member": 0,
        "attempt": 1,
        "candidate": 0,
        "plan": {"members": [{"candidates": [{"provider": "p", "model": "m"}]}]},
    }
    assert line("outcomes", call=call, **ended).endswith("2 vectors of 900 numbers")
