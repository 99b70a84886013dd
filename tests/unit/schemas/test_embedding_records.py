"""Requests for vectors, and vectors as they lie on topics."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.schemas.errors import InvalidEventError
from millrace.schemas.request import Request
from millrace.schemas.response import Response

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def response(*vectors: tuple[float, ...]) -> Response:
    """A terminal record with vectors."""
    return Response(request_id="r", status="completed", embeddings=vectors, completed_at=NOW)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_no_number_of_a_vector_changes_on_its_way(numbers: list[float]) -> None:
    """Not even in the last digit, for any reader of JSON."""
    written = response(tuple(numbers)).encode()

    assert Response.decode(written).embeddings == (tuple(numbers),)
    assert orjson.loads(written)["embeddings"] == [numbers]


def test_numbers_are_written_as_short_as_the_provider_wrote_them() -> None:
    """Not to the digits of a binary fraction."""
    assert b"[[0.0023064255,-0.1]]" in response((0.0023064255, -0.1)).encode()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "null"])
def test_what_is_no_number_is_no_vector(number: str) -> None:
    """A record with one is not read as anything else."""
    written = response((0.5,)).encode().replace(b"0.5", number.encode())

    with pytest.raises(InvalidEventError, match="embeddings"):
        Response.decode(written)


def test_what_means_nothing_for_vectors_is_named_and_refused() -> None:
    """All of it at once, so that nobody believes it to have worked."""
    body = {
        "inputs": ["x"],
        "stream": True,
        "parameters": {"temperature": 0.5},
        "output": {"format": "json"},
        "tools": [{"name": "look_up"}],
        "route": {"strategy": "ensemble", "members": 3, "quorum": 2},
    }
    with pytest.raises(InvalidEventError) as caught:
        Request.decode(orjson.dumps(body))

    wanted = (
        "leave out stream, tools, parameters, output, route.strategy 'ensemble', "
        "route.members, route.quorum"
    )
    assert wanted in caught.value.message


def test_an_empty_text_is_named_by_its_place_and_no_text_is_quoted() -> None:
    """Texts may be secrets."""
    with pytest.raises(InvalidEventError) as caught:
        Request.decode(b'{"inputs": ["a secret", ""], "dimensions": 0}')

    assert "inputs.1" in caught.value.message
    assert "dimensions" in caught.value.message
    assert "secret" not in caught.value.message
