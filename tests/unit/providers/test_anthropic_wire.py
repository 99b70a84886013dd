"""The anthropic wire, both ways."""

from typing import Any

import orjson
import pytest

from millrace.providers.entry import ModelEntry
from millrace.providers.protocol import (
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    UsageSoFar,
)
from millrace.schemas.errors import (
    ProviderUnavailableError,
    ReplyInvalidError,
    RequestRefusedError,
)
from millrace.schemas.message import ImagePart, Message, TextPart, ToolCall, ToolDefinition
from millrace.schemas.request import OutputSpec, Parameters
from millrace.schemas.usage import Usage

_USER = Message(role="user", content="Hello")


def _request(*messages: Message, **settings: Any) -> ModelRequest:
    return ModelRequest(model="m", messages=messages or (_USER,), **settings)


def _event(kind: str, **fields: Any) -> bytes:
    body = orjson.dumps({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"


def _start(**usage: Any) -> bytes:
    message = {"id": "msg_1", "model": "claude", "content": [], "usage": usage or None}
    return _event("message_start", message=message)


def _block(index: int, **block: Any) -> bytes:
    return _event("content_block_start", index=index, content_block=block)


def _delta(index: int, kind: str, **delta: Any) -> bytes:
    return _event("content_block_delta", index=index, delta={"type": kind, **delta})


def _end(reason: str = "end_turn", **usage: Any) -> tuple[bytes, bytes]:
    delta = _event("message_delta", delta={"stop_reason": reason}, usage=usage or None)
    return delta, _event("message_stop")


_TEXT = (_block(0, type="text", text=""), _delta(0, "text_delta", text="Hi"))


async def test_a_request_is_written_as_the_wire_has_it(server: Any) -> None:
    """System apart, a limit always, the key in its own header; a seed has no form here."""
    parameters = Parameters(temperature=0.2, top_p=0.9, stop=("END",), seed=7)
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="system", content="Be kind."),
        _USER,
    )

    done = await server.ask(
        "anthropic",
        _start(),
        *_TEXT,
        *_end(),
        request=_request(*messages, parameters=parameters),
        api_key_env=("KEY",),
        environ={"KEY": "sk-ant-1"},
    )

    assert str(done.request.url) == "http://server/base/v1/messages"
    assert done.request.headers["x-api-key"] == "sk-ant-1"
    assert done.request.headers["anthropic-version"] == "2023-06-01"
    assert done.sent == {
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "system": "Be brief.\n\nBe kind.",
        "temperature": 0.2,
        "top_p": 0.9,
        "stop_sequences": ["END"],
    }


@pytest.mark.parametrize(
    ("asked", "offered", "sent"), [(None, None, 4096), (None, 900, 900), (50, 900, 50)]
)
async def test_the_limit_is_the_requests_or_the_models(
    server: Any, asked: int | None, offered: int | None, sent: int
) -> None:
    """The wire demands one."""
    done = await server.ask(
        "anthropic",
        *_end(),
        request=_request(parameters=Parameters(max_output_tokens=asked)),
        model=ModelEntry(max_output_tokens=offered),
    )

    assert done.sent["max_tokens"] == sent


async def test_a_base_url_may_name_the_version(server: Any) -> None:
    """As other wires have it."""
    done = await server.ask("anthropic", *_end(), base_url="http://server/v1/")

    assert str(done.request.url) == "http://server/v1/messages"


async def test_tools_calls_results_and_images_pass_through(server: Any) -> None:
    """The results of parallel calls stand in one turn."""
    conversation = (
        Message(
            role="user",
            content=(
                TextPart(type="text", text="Look"),
                ImagePart(type="image", url="https://x/y.png"),
                ImagePart(type="image", data="QUJD", media_type="image/png"),
            ),
        ),
        Message(
            role="assistant",
            content="I will.",
            tool_calls=(
                ToolCall(id="t1", name="a", arguments='{"x":1}'),
                ToolCall(id="t2", name="b", arguments=""),
            ),
        ),
        Message(role="tool", content="one", tool_call_id="t1"),
        Message(role="tool", content="two", tool_call_id="t2"),
        Message(role="user", content="Go on"),
    )
    tools = (ToolDefinition(name="a", description="A.", parameters={"type": "object"}),)

    done = await server.ask(
        "anthropic",
        *_end(),
        request=_request(*conversation, tools=tools, parameters=Parameters(tool_choice="required")),
    )

    assert done.sent["tools"] == [
        {"name": "a", "description": "A.", "input_schema": {"type": "object"}}
    ]
    assert done.sent["tool_choice"] == {"type": "any"}
    assert done.sent["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I will."},
                {"type": "tool_use", "id": "t1", "name": "a", "input": {"x": 1}},
                {"type": "tool_use", "id": "t2", "name": "b", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "t2", "content": "two"},
            ],
        },
        {"role": "user", "content": "Go on"},
    ]


async def test_arguments_that_are_no_object_are_refused_unsent(server: Any) -> None:
    """This wire has them as an object, not as text."""
    call = Message(role="assistant", tool_calls=(ToolCall(id="t", name="a", arguments="[1"),))
    provider = server.provider("anthropic")

    with pytest.raises(RequestRefusedError, match="'a'"):
        [_ async for _ in provider.ask(_request(_USER, call))]

    assert server.requests == []


async def test_json_is_asked_for_in_the_system_prompt(server: Any) -> None:
    """With the schema where there is one."""
    output = OutputSpec(format="json", json_schema={"type": "array"})

    done = await server.ask("anthropic", *_end(), request=_request(output=output))

    assert "JSON" in done.sent["system"]
    assert '{"type":"array"}' in done.sent["system"]


async def test_a_stream_is_read_block_by_block(server: Any) -> None:
    """Thinking, text and tool calls; what the server did by itself is passed over."""
    done = await server.ask(
        "anthropic",
        _start(input_tokens=5, output_tokens=1),
        _event("ping"),
        _block(0, type="thinking", thinking="", signature=""),
        _delta(0, "thinking_delta", thinking="Hm."),
        _delta(0, "signature_delta", signature="abc"),
        _block(1, type="text", text=""),
        _delta(1, "text_delta", text="Hi"),
        _block(2, type="server_tool_use", id="s", name="web_search", input={}),
        _delta(2, "input_json_delta", partial_json='{"query":"x"}'),
        _block(3, type="web_search_tool_result", tool_use_id="s", content=[]),
        _block(4, type="tool_use", id="t", name="f", input={}),
        _delta(4, "input_json_delta", partial_json=""),
        _delta(4, "input_json_delta", partial_json='{"a"'),
        _delta(4, "input_json_delta", partial_json=":1}"),
        _event("content_block_stop", index=4),
        _event("event_of_the_future", fact=1),
        *_end("tool_use", output_tokens=9),
    )

    assert done.events[:-1] == [
        UsageSoFar(Usage(input_tokens=5, output_tokens=1)),
        ReasoningDelta("Hm."),
        TextDelta("Hi"),
        ToolArgumentsDelta(index=0, id="t", name="f"),
        ToolArgumentsDelta(index=0, arguments='{"a"'),
        ToolArgumentsDelta(index=0, arguments=":1}"),
        UsageSoFar(Usage(input_tokens=5, output_tokens=9)),
    ]
    assert done.completion.tool_calls == (ToolCall(id="t", name="f", arguments='{"a":1}'),)
    assert done.completion.finish_reason == "tool_calls"
    assert (done.completion.model, done.completion.response_id) == ("claude", "msg_1")


async def test_a_plain_message_gives_the_same(server: Any) -> None:
    """Input of a tool call comes whole."""
    message = {
        "type": "message",
        "id": "msg_1",
        "model": "claude",
        "stop_reason": "tool_use",
        "content": [
            {"type": "thinking", "thinking": "Hm."},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 9},
    }

    done = await server.ask("anthropic", orjson.dumps(message), request=_request(stream=False))

    assert (done.completion.reasoning, done.completion.text) == ("Hm.", "Hi")
    assert done.completion.tool_calls == (ToolCall(id="t", name="f", arguments='{"a":1}'),)
    assert done.completion.usage == Usage(input_tokens=5, output_tokens=9)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (
            {
                "input_tokens": 3,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 40,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 10,
                    "ephemeral_1h_input_tokens": 30,
                },
                "output_tokens": 1,
            },
            {"output_tokens": 9},
            Usage(
                input_tokens=143,
                cached_tokens=100,
                cache_write_tokens=40,
                cache_write_1h_tokens=30,
                output_tokens=9,
            ),
        ),
        (
            {"input_tokens": 3, "output_tokens": 1},
            {"input_tokens": 500, "cache_read_input_tokens": 20, "output_tokens": 9},
            Usage(input_tokens=520, cached_tokens=20, output_tokens=9),
        ),
        (
            {"input_tokens": 0, "output_tokens": 0},
            {"input_tokens": 7, "output_tokens": 9},
            Usage(input_tokens=7, output_tokens=9),
        ),
        (
            {"input_tokens": 7, "output_tokens": 0},
            {"input_tokens": 0, "output_tokens": 9},
            Usage(input_tokens=7, output_tokens=9),
        ),
        (
            {"input_tokens": 50, "output_tokens": 1},
            {
                "input_tokens": 20,
                "output_tokens": 9,
                "output_tokens_details": {"thinking_tokens": 4},
                "iterations": [
                    {"input_tokens": 50, "cache_read_input_tokens": 5, "output_tokens": 30},
                    {"input_tokens": 20, "output_tokens": 9},
                ],
            },
            Usage(input_tokens=75, cached_tokens=5, output_tokens=39, reasoning_tokens=4),
        ),
    ],
    ids=["input at the start", "input at the end", "gateway", "other gateway", "iterations"],
)
async def test_usage_is_cumulative_and_holds_the_cache(
    server: Any, start: dict[str, Any], end: dict[str, Any], expected: Usage
) -> None:
    """The last word counts, and every pass that is billed."""
    done = await server.ask("anthropic", _start(**start), *_TEXT, *_end(**end))

    assert done.completion.usage == expected


async def test_usage_so_far_comes_before_the_answer(server: Any) -> None:
    """A call that breaks off can be booked by it."""
    done = await server.ask("anthropic", _start(input_tokens=5, output_tokens=1), *_TEXT)

    assert done.events == [
        UsageSoFar(Usage(input_tokens=5, output_tokens=1)),
        TextDelta("Hi"),
    ]
    assert done.error is not None


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
    ],
)
async def test_stop_reasons_are_ours(server: Any, reason: str, ours: str) -> None:
    """In one vocabulary."""
    done = await server.ask("anthropic", _start(), *_TEXT, *_end(reason))

    assert done.completion.finish_reason == ours


@pytest.mark.parametrize("missing", [1, 2])
async def test_only_its_end_mark_ends_a_stream_well(server: Any, missing: int) -> None:
    """A stop reason alone does not: usage may still follow."""
    reply = (_start(), *_TEXT, *_end())

    done = await server.ask("anthropic", *reply[:-missing])

    assert isinstance(done.error, ProviderUnavailableError)
    assert done.error.code == "stream_truncated"


async def test_an_overloaded_server_says_so_within_the_stream(server: Any) -> None:
    """It equals HTTP 529."""
    error = {"type": "overloaded_error", "message": "Overloaded"}

    done = await server.ask("anthropic", _start(), *_TEXT, _event("error", error=error))

    assert isinstance(done.error, ProviderUnavailableError)
    assert done.error.retryable
    assert "overloaded_error" in done.error.message


@pytest.mark.parametrize(
    "reply",
    [_block(0, type="hologram"), b"data: {}\n\n", _event("content_block_delta", index=0)],
    ids=["unknown block", "no type", "no delta"],
)
async def test_what_is_not_of_this_wire_is_an_invalid_reply(server: Any, reply: bytes) -> None:
    """A block of an unknown type may be part of the answer."""
    done = await server.ask("anthropic", _start(), reply)

    assert isinstance(done.error, ReplyInvalidError)


async def test_what_follows_the_end_counts_for_nothing(server: Any) -> None:
    """Also in the same piece of the body."""
    late = _delta(0, "text_delta", text=" there") + b"data: {broken\n\n"

    done = await server.ask("anthropic", b"".join((_start(), *_TEXT, *_end())) + late)

    assert done.completion.text == "Hi"
