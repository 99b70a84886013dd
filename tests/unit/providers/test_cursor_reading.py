"""What the Cursor CLI is told, and what is read from it."""

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.cursor_failures import ended_early
from millrace.providers.cursor_prompt import cursor_prompt
from millrace.providers.cursor_reply import CursorReply
from millrace.providers.protocol import Completion, ModelRequest, TextDelta
from millrace.providers.wires.wire import ReplyLimits
from millrace.schemas.errors import ProviderError, RequestRefusedError
from millrace.schemas.message import ImagePart, Message, TextPart, ToolCall, ToolDefinition
from millrace.schemas.request import OutputSpec

USER = Message(role="user", content="Why?")


def _request(*messages: Message, **fields: Any) -> ModelRequest:
    return ModelRequest(model="auto", messages=messages or (USER,), **fields)


def _said(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}, **fields}


def _result(text: str) -> dict[str, Any]:
    return {"type": "result", "subtype": "success", "is_error": False, "result": text}


def _lines(*events: dict[str, Any]) -> bytes:
    return b"".join(orjson.dumps(event) + b"\n" for event in events)


def _read(*pieces: bytes, partial: bool = True) -> tuple[list[str], Completion]:
    reply = CursorReply(limits=ReplyLimits(), partial=partial)
    # Line by line: what comes in one piece of the body is one delta.
    lines = [line for piece in pieces for line in piece.splitlines(keepends=True)]
    events = [event for line in lines for event in reply.feed(line)]
    events += reply.close()
    last = events[-1]
    assert isinstance(last, Completion)
    return [event.text for event in events if isinstance(event, TextDelta)], last


def test_a_single_question_stands_alone() -> None:
    """After what the system says."""
    parts = (TextPart(type="text", text="Why"), TextPart(type="text", text="?"))

    assert cursor_prompt(_request()) == "Why?"
    assert cursor_prompt(_request(Message(role="user", content=parts))) == "Why?"
    assert cursor_prompt(_request(Message(role="system", content="Brief."), USER)) == (
        "Brief.\n\nWhy?"
    )


def test_a_conversation_names_its_speakers() -> None:
    """So that the model can tell them apart; JSON is asked for at the end."""
    turns = (
        USER,
        Message(role="assistant", content="So."),
        Message(role="user", content="Really?"),
    )

    prompt = cursor_prompt(_request(*turns, output=OutputSpec(format="json")))

    assert prompt.startswith("User:\nWhy?\n\nAssistant:\nSo.\n\nUser:\nReally?\n\nAnswer with a ")
    assert "JSON" in prompt


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (_request(tools=(ToolDefinition(name="t"),)), "tools of its own"),
        (
            _request(
                USER,
                Message(role="assistant", tool_calls=(ToolCall(id="1", name="t", arguments="{}"),)),
                Message(role="tool", tool_call_id="1", content="x"),
            ),
            "tools of its own",
        ),
        (
            _request(
                Message(role="user", content=(ImagePart(type="image", url="http://i/x.png"),))
            ),
            "takes no images",
        ),
        (_request(Message(role="user", content=" ")), "nothing to ask"),
    ],
)
def test_what_the_command_cannot_carry_is_refused(request_: ModelRequest, why: str) -> None:
    """Rather than dropped."""
    with pytest.raises(RequestRefusedError, match=why):
        cursor_prompt(request_)


def test_versions_that_give_no_times_repeat_nothing() -> None:
    """Every event is a piece, also one that looks like the one before."""
    texts, last = _read(_lines(_said("ha"), _said("ha"), _said("!"), _result("haha!")))

    assert (texts, last.text) == (["ha", "ha", "!"], "haha!")


def test_pieces_that_look_alike_are_all_kept() -> None:
    """Times tell pieces from repetitions, not their texts."""
    texts, _ = _read(
        _lines(
            _said("ha", timestamp_ms=1),
            _said("ha", timestamp_ms=2),
            _said("haha", timestamp_ms=3, model_call_id="m"),
            _said("haha"),
            _result("haha"),
        )
    )

    assert texts == ["ha", "ha"]


def test_what_only_the_whole_message_has_is_not_lost() -> None:
    """A last piece that did not come by itself, or came only with the result."""
    texts, last = _read(
        _lines(
            _said("one ", timestamp_ms=1),
            _said("one two ", timestamp_ms=2, model_call_id="m"),
            _result("one two three"),
        )
    )

    assert (texts, last.text) == (["one ", "two ", "three"], "one two three")


def test_a_result_without_messages_is_the_answer() -> None:
    """Nothing had come before."""
    texts, last = _read(_lines(_result("Yes.")))

    assert (texts, last.text, last.usage) == (["Yes."], "Yes.", None)


def test_unknown_events_and_fields_are_passed_over() -> None:
    """The documentation announces more of them."""
    texts, _ = _read(
        _lines(
            {"type": "interaction_query", "x": 1}, {"type": None}, _said("a", new=1), _result("a")
        )
    )

    assert texts == ["a"]


@given(
    texts=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6),
    cuts=st.lists(st.integers(min_value=0, max_value=2000), max_size=12),
)
@settings(max_examples=60)
def test_however_the_output_is_cut_it_reads_the_same(texts: list[str], cuts: list[int]) -> None:
    """Deltas join to the text of the completion."""
    whole = "".join(texts)
    events = [_said(text, timestamp_ms=at) for at, text in enumerate(texts)]
    body = _lines({"type": "system", "model": "M"}, *events, _said(whole), _result(whole))
    places = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})

    deltas, last = _read(*(body[start:end] for start, end in pairwise(places)))

    assert "".join(deltas) == last.text == whole
    assert (last.finish_reason, last.model) == ("stop", "M")


@given(body=st.binary(max_size=80) | st.from_regex(rb'\{"type":"(assistant|result)".{0,30}\}\n'))
@settings(max_examples=80)
def test_whatever_it_prints_is_a_reply_or_a_provider_error(body: bytes) -> None:
    """Nothing else comes out, and a success only with a result."""
    try:
        _read(body)
    except ProviderError:
        return
    assert b'"result"' in body


PROMPT = "Summarise the quarterly figures of the northern branch"


@pytest.mark.parametrize(
    ("stderr", "shown"),
    [
        ("Error: connect ECONNREFUSED\n  at Socket", "Error: connect ECONNREFUSED"),
        ("\x1b[31mbad\x1b[0m thing", "bad thing"),
        ('{"type":"system"}\n\n  words', "words"),
        ("could not find 'secret plan' in \"/a b\"", "could not find … in …"),
        ("header Bearer abc refused", "header … refused"),
        ("used sk-abc and crsr_1", "used … and …"),
        ("token 0123456789abcdef0123456789abcdef", "token …"),
        ("no way: my-own-key", None),
        (f"while doing: {PROMPT}", None),
        ("about the quarterly figures of it", None),
        ("", None),
        ("x. " * 200, "x. " * 53 + "x…"),
    ],
)
def test_the_error_output_is_shown_only_where_it_is_harmless(
    stderr: str, shown: str | None
) -> None:
    """One line of it, short, without escapes, quotations and keys."""
    error = ended_early(7, stderr, begun=False, private=(PROMPT, "my-own-key", ""))

    detail = "" if shown is None else f" ({shown})"
    assert error.message == f"the command ended with exit code 7{detail}"


@given(stderr=st.text(max_size=400), key=st.text(min_size=4, max_size=12))
@settings(max_examples=60)
def test_no_message_holds_the_key(stderr: str, key: str) -> None:
    """Wherever it stands."""
    error = ended_early(1, f"{stderr}{key}{stderr}", begun=False, private=(key,))

    assert key not in error.message.removeprefix("the command ended with exit code 1")
