"""What is stored of requests for vectors."""

from datetime import UTC, datetime
from typing import Any

from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.sinks.protocol import ReceivedRequest
from millrace.sinks.rows import request_row, response_row
from millrace.sinks.tables import REQUESTS, RESPONSES

AT = datetime(2026, 3, 4, 5, 6, 7, 891_000, tzinfo=UTC)


def stored_request(*, store_text: bool, **fields: Any) -> dict[str, Any]:
    """The row of a request."""
    received = ReceivedRequest(
        request=Request.model_validate(fields),
        request_id="r1",
        accepted_at=AT,
        topic="llm.requests",
        partition=2,
        offset=0,
        size_bytes=14,
    )
    return dict(zip(REQUESTS.columns, request_row(received, store_text=store_text), strict=True))


def test_texts_are_counted_and_are_content_like_a_prompt() -> None:
    """Which is not stored where the operator does not want it."""
    row = stored_request(store_text=True, inputs=["a", "b"], dimensions=32)
    bare = stored_request(store_text=False, inputs=["a", "b"])

    assert (row["message_count"], row["input_count"], row["dimensions"]) == (0, 2, 32)
    assert row["content"] == '{"inputs":["a","b"]}'
    assert (bare["input_count"], bare["dimensions"], bare["content"]) == (2, 0, "")


def test_a_question_has_no_inputs() -> None:
    """And a message, as before."""
    row = stored_request(store_text=True, prompt="p")

    assert (row["message_count"], row["input_count"], row["dimensions"]) == (1, 0, 0)


def test_vectors_are_counted_and_not_stored() -> None:
    """Columns of text stay empty."""
    response = Response(
        request_id="r1",
        status="completed",
        embeddings=((0.123456, 0.5, 1.0), (0.5, 0.5, 0.5)),
        completed_at=AT,
    )
    values = response_row(response, store_text=True)
    row = dict(zip(RESPONSES.columns, values, strict=True))

    assert (row["embedding_count"], row["embedding_dimensions"]) == (2, 3)
    assert (row["text"], row["data"], row["tool_calls"], row["text_bytes"]) == ("", "", "", 0)
    assert "0.123456" not in str(values)
