"""Text that comes in one piece of a reply's body is handed on as one delta."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.protocol import ProviderEvent, ReasoningDelta, TextDelta
from millrace.providers.wires.openai_reply import OpenAiReply
from millrace.providers.wires.wire import ReplyLimits
from millrace.schemas.errors import ProviderError, ReplyInvalidError


class AtLength(OpenAiReply):
    """Reads what brings only text as it reads everything else."""

    __slots__ = ()

    def _plain_text(self, document: Any) -> None:  # noqa: ARG002 (the interface's)
        return None


def reply(of: type[OpenAiReply] = OpenAiReply) -> OpenAiReply:
    """A reader at the beginning of a reply."""
    return of(limits=ReplyLimits(), proxy_cost=None)


def piece(*deltas: object) -> bytes:
    """A piece of a body that brings these deltas."""
    return b"".join(
        sse({"model": "m", "id": "x", "choices": [{"delta": delta}]}) for delta in deltas
    )


def sse(document: object) -> bytes:
    """A document as an event of a stream."""
    return b"data: " + orjson.dumps(document) + b"\n\n"


def test_neighbouring_texts_are_joined_and_nothing_changes_places() -> None:
    """What stands between texts keeps its place."""
    body = piece(
        {"content": "a"},
        {"content": "b"},
        {"reasoning": "hm"},
        {"content": "c"},
        {"content": "d"},
    )

    assert [TextDelta("ab"), ReasoningDelta("hm"), TextDelta("cd")] == list(reply().feed(body))


def test_what_came_before_a_failure_is_handed_on_before_it() -> None:
    """An interrupted call is booked by what it had said."""
    joined = reply().feed(piece({"content": "a"}, {"content": "b"}) + b"data: {broken\n\n")

    assert TextDelta("ab") == next(joined)
    with pytest.raises(ReplyInvalidError, match="not JSON"):
        next(joined)


def test_nothing_makes_nothing() -> None:
    """A piece of the body may hold no event at all."""
    assert list(reply().feed(b": a comment\n\n")) == []


texts = st.sampled_from(["", "a", "b c", None, 7, ["x"]])
deltas = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "content": texts,
            "role": st.just("assistant"),
            "reasoning": texts,
            "refusal": texts,
        },
    ),
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "delta": deltas,
        "message": deltas,
        "index": st.sampled_from([0, 1, None]),
        "finish_reason": st.sampled_from([None, "stop", "length", "error"]),
        "logprobs": st.sampled_from([None, {"content": [{"logprob": -0.5}]}]),
    },
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from([None, "x"]),
        "model": st.sampled_from([None, "m"]),
        "choices": st.one_of(st.none(), st.just({}), st.lists(choices, max_size=2)),
        "usage": st.sampled_from([None, {}, {"prompt_tokens": 3, "completion_tokens": 2}]),
        "error": st.sampled_from([None, "", {"message": "no", "code": 500}]),
        "x_groq": st.sampled_from([None, {"usage": {"prompt_tokens": 1}}]),
    },
)
PLAIN = {"id": "x", "model": "m", "choices": [{"delta": {"content": "so"}}]}


def told(of: type[OpenAiReply], body: bytes) -> tuple[list[ProviderEvent | str], object]:
    """All that a reader makes of a body, and what it knows after it."""
    reading = reply(of)
    events: list[ProviderEvent | str] = []
    try:
        events += reading.feed(body)
        events += reading.close()
    except ProviderError as error:
        events.append(f"{type(error).__name__} {error.code}: {error.message}")
    return events, (reading._text, reading._model, reading._finish, reading._usage)


@settings(max_examples=400)
@given(st.lists(st.one_of(st.just(PLAIN), documents), max_size=6))
def test_the_short_way_reads_what_the_long_one_reads(stream: list[Any]) -> None:
    """Whatever a server sends: the same events, the same failure, the same completion."""
    body = b"".join(map(sse, stream)) + b"data: [DONE]\n\n"

    assert told(AtLength, body) == told(OpenAiReply, body)
