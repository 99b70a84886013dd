"""The openai wire, both ways."""

from decimal import Decimal
from math import log
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
from millrace.providers.wires.wire import ReplyLimits
from millrace.schemas.errors import (
    ProviderUnavailableError,
    ReplyInvalidError,
    RequestRefusedError,
)
from millrace.schemas.message import ImagePart, Message, TextPart, ToolCall, ToolDefinition
from millrace.schemas.request import OutputSpec, Parameters
from millrace.schemas.usage import Usage

_USER = Message(role="user", content="Hello")
_DONE = b"data: [DONE]\n\n"


def _request(*messages: Message, **settings: Any) -> ModelRequest:
    return ModelRequest(model="m", messages=messages or (_USER,), **settings)


def _chunk(delta: Any = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return _event({"id": "c1", "model": "m-1", "choices": [choice], **more})


def _event(document: Any) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


_HELLO = (_chunk({"role": "assistant", "content": ""}), _chunk({"content": "Hi"}))
_PLAIN: dict[str, Any] = {
    "id": "c1",
    "model": "m-1",
    "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
}


async def test_a_request_is_written_as_the_wire_has_it(server: Any) -> None:
    """Path, key, parameters, and usage asked for in the stream."""
    parameters = Parameters(temperature=0.2, top_p=0.9, max_output_tokens=50, stop=("END",), seed=7)

    done = await server.ask(
        "openai",
        *_HELLO,
        _DONE,
        request=_request(Message(role="system", content="Be brief."), _USER, parameters=parameters),
        api_key_env=("KEY",),
        environ={"KEY": "sk-1"},
        headers={},
    )

    assert str(done.request.url) == "http://server/base/chat/completions"
    assert done.request.headers["authorization"] == "Bearer sk-1"
    assert done.request.headers["content-type"] == "application/json"
    assert done.sent == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 50,
        "temperature": 0.2,
        "top_p": 0.9,
        "stop": ["END"],
        "seed": 7,
    }


async def test_openai_itself_is_sent_the_limit_by_its_newer_name(server: Any) -> None:
    """Its reasoning models refuse the older one, which others need."""
    done = await server.ask(
        "openai",
        _DONE,
        request=_request(parameters=Parameters(max_output_tokens=9)),
        base_url="https://api.openai.com/v1",
    )

    assert done.sent["max_completion_tokens"] == 9
    assert "max_tokens" not in done.sent


async def test_headers_of_the_entry_are_sent(server: Any) -> None:
    """They go over the wire's own."""
    provider = server.provider("openai", headers={"X-Team": "payments", "user-agent": "ours"})
    server.reply = (_DONE,)

    [_ async for _ in provider.ask(_request())]

    assert server.requests[-1].headers["x-team"] == "payments"
    assert server.requests[-1].headers["user-agent"] == "ours"


async def test_a_plain_request_asks_for_no_stream(server: Any) -> None:
    """And its reply gives the same events."""
    done = await server.ask("openai", orjson.dumps(_PLAIN), request=_request(stream=False))

    assert done.sent["stream"] is False
    assert "stream_options" not in done.sent
    assert done.events[:2] == [
        TextDelta("Hi"),
        UsageSoFar(Usage(input_tokens=7, output_tokens=2)),
    ]
    assert done.completion.text == "Hi"
    assert done.completion.model == "m-1"
    assert done.completion.response_id == "c1"


async def test_tools_calls_and_results_pass_through(server: Any) -> None:
    """Calls that came without an id are given one, and their results the same."""
    conversation = (
        _USER,
        Message(
            role="assistant",
            tool_calls=(
                ToolCall(name="time", arguments="{}"),
                ToolCall(id="x9", name="sum", arguments='{"a":1}'),
            ),
        ),
        Message(role="tool", content="noon"),
        Message(role="tool", content="2", tool_call_id="x9"),
    )
    tools = (
        ToolDefinition(name="time", description="The time.", parameters={"type": "object"}),
        ToolDefinition(name="sum"),
    )

    done = await server.ask(
        "openai",
        _DONE,
        request=_request(*conversation, tools=tools, parameters=Parameters(tool_choice="required")),
    )

    assert done.sent["tool_choice"] == "required"
    assert done.sent["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "time",
                "description": "The time.",
                "parameters": {"type": "object"},
            },
        },
        {"type": "function", "function": {"name": "sum"}},
    ]
    assert done.sent["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "time", "arguments": "{}"},
                },
                {
                    "id": "x9",
                    "type": "function",
                    "function": {"name": "sum", "arguments": '{"a":1}'},
                },
            ],
        },
        {"role": "tool", "content": "noon", "tool_call_id": "call_1"},
        {"role": "tool", "content": "2", "tool_call_id": "x9"},
    ]


async def test_images_pass_through_as_urls(server: Any) -> None:
    """Data becomes a data URL."""
    parts = (
        TextPart(type="text", text="What is this?"),
        ImagePart(type="image", url="https://x/y.png"),
        ImagePart(type="image", data="QUJD", media_type="image/png"),
    )

    done = await server.ask("openai", _DONE, request=_request(Message(role="user", content=parts)))

    assert done.sent["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
    ]


@pytest.mark.parametrize(
    "message",
    [
        Message(role="user", content=(ImagePart(type="image", url="data:image/png,raw"),)),
        Message(role="tool", content="2", tool_call_id="nobody"),
        Message(role="tool", content="2"),
    ],
    ids=["odd data URL", "result of no call", "stray result"],
)
async def test_what_the_wire_cannot_carry_is_refused_unsent(server: Any, message: Message) -> None:
    """With a sentence that says what to do."""
    provider = server.provider("openai")

    with pytest.raises(RequestRefusedError):
        [_ async for _ in provider.ask(_request(message))]

    assert server.requests == []


async def test_json_is_asked_for(server: Any) -> None:
    """By schema; or by the plain mode, which wants the word JSON in some message."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}

    by_schema = await server.ask(
        "openai", _DONE, request=_request(output=OutputSpec(format="json", json_schema=schema))
    )
    unsaid = await server.ask("openai", _DONE, request=_request(output=OutputSpec(format="json")))
    said = await server.ask(
        "openai",
        _DONE,
        request=_request(
            Message(role="user", content="Answer in JSON."), output=OutputSpec(format="json")
        ),
    )

    assert by_schema.sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema},
    }
    assert unsaid.sent["response_format"] == {"type": "json_object"}
    assert "JSON" in unsaid.sent["messages"][0]["content"]
    assert len(said.sent["messages"]) == 1


_CLOSED = {
    "type": "object",
    "properties": {
        "a": {"type": ["integer", "null"]},
        "b": {"type": "array", "items": {"$ref": "#/$defs/b"}},
    },
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"b": {"type": "string", "enum": ["x", "y"]}},
}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (_CLOSED, True),
        ({**_CLOSED, "required": ["a"]}, False),
        ({**_CLOSED, "additionalProperties": True}, False),
        ({**_CLOSED, "minProperties": 1}, False),
        ({**_CLOSED, "$defs": {"b": {"type": "string", "pattern": "x"}}}, False),
        ({**_CLOSED, "$defs": {"b": {"enum": ["x"]}}}, False),
        ({**_CLOSED, "$defs": {"b": {"type": "array"}}}, False),
        ({**_CLOSED, "$defs": {"b": {"type": "string", "enum": ["x"] * 501}}}, False),
        ({"type": "object"}, False),
    ],
)
async def test_openai_is_held_to_a_schema_that_its_strict_mode_takes(
    server: Any, schema: dict[str, Any], strict: bool
) -> None:
    """Others are a wish, for it would refuse the call; other servers are not told."""
    request = _request(output=OutputSpec(format="json", json_schema=schema))
    openai = "https://api.openai.com/v1"

    there = await server.ask("openai", _DONE, request=request, base_url=openai)
    elsewhere = await server.ask("openai", _DONE, request=request)

    told = {"name": "answer", "schema": schema}
    wanted = {**told, "strict": True} if strict else told
    assert there.sent["response_format"] == {"type": "json_schema", "json_schema": wanted}
    assert elsewhere.sent["response_format"] == {"type": "json_schema", "json_schema": told}


async def test_a_schema_of_no_object_is_told_in_words_to_the_cloud(server: Any) -> None:
    """OpenAI refuses it, whoever hands it on; own servers hold the model to it."""
    schema = {"type": "array", "items": {"type": "integer"}}
    request = _request(output=OutputSpec(format="json", json_schema=schema))

    cloud = await server.ask("openai", _DONE, request=request)
    own = await server.ask("openai", _DONE, request=request, hardware="gpu")

    assert "response_format" not in cloud.sent
    assert orjson.dumps(schema).decode() in cloud.sent["messages"][0]["content"]
    assert own.sent["response_format"]["json_schema"]["schema"] == schema
    assert len(own.sent["messages"]) == 1


async def test_a_stream_is_read_to_its_end_mark(server: Any) -> None:
    """Comments, `choices: null`, other choices and what follows the mark are passed over."""
    other = {"index": 1, "delta": {"content": "not asked for"}, "finish_reason": "stop"}

    done = await server.ask(
        "openai",
        b": PROCESSING\n\n",
        *_HELLO,
        _event({"choices": None}),
        _event({"choices": [other]}),
        _chunk({"content": "!"}, "stop"),
        _event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
        _DONE,
        b"data: not json\n\n",
    )

    assert done.completion.text == "Hi!"
    assert done.completion.finish_reason == "stop"
    assert done.completion.usage == Usage(input_tokens=3, output_tokens=2)


async def test_reasoning_is_kept_apart(server: Any) -> None:
    """Under either of its names."""
    done = await server.ask(
        "openai",
        _chunk({"reasoning_content": "Let me "}),
        _chunk({"reasoning": "see."}),
        _chunk({"content": "Yes"}, "stop"),
        _DONE,
    )

    assert done.events[:2] == [ReasoningDelta("Let me "), ReasoningDelta("see.")]
    assert (done.completion.reasoning, done.completion.text) == ("Let me see.", "Yes")


def _call(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> Any:
    piece: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    if index is not None:
        piece["index"] = index
    if call_id is not None:
        piece["id"] = call_id
    return piece


@pytest.mark.parametrize(
    "deltas",
    [
        [
            [_call(0, "a", "f", "")],
            [_call(0, None, None, '{"x"')],
            [_call(1, "b", "g", "{}")],
            [_call(0, None, None, ":1}")],
        ],
        [[_call(0, "a", "f", '{"x":1}')], [_call(0, "b", "g", "{}")]],
        [[_call(None, "a", "f", '{"x":1}'), _call(None, "b", "g", "{}")]],
        [[_call(None, "a", "f", {"x": 1})], [_call(None, "b", "g", {})]],
    ],
    ids=["by index", "all numbered 0", "without index", "arguments as objects"],
)
async def test_tool_calls_are_put_together(server: Any, deltas: list[Any]) -> None:
    """However a vendor tells them apart."""
    done = await server.ask(
        "openai", *(_chunk({"tool_calls": pieces}) for pieces in deltas), _chunk({}, "stop"), _DONE
    )

    assert done.completion.tool_calls == (
        ToolCall(id="a", name="f", arguments='{"x":1}'),
        ToolCall(id="b", name="g", arguments="{}"),
    )
    assert done.completion.finish_reason == "tool_calls"
    first = done.events[0]
    assert isinstance(first, ToolArgumentsDelta)
    assert (first.index, first.id, first.name) == (0, "a", "f")


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("function_call", "tool_calls"),
        ("something_new", "other"),
    ],
)
async def test_finish_reasons_are_ours(server: Any, reason: str, ours: str) -> None:
    """And an end without a mark is good after one of them."""
    done = await server.ask("openai", *_HELLO, _chunk({}, reason))

    assert done.completion.finish_reason == ours


async def test_a_refusal_is_a_filtered_answer(server: Any) -> None:
    """The vendor calls it a normal stop; its words are no answer, and are kept apart."""
    done = await server.ask(
        "openai",
        _chunk({"refusal": "I "}),
        _chunk({"refusal": "cannot"}),
        _chunk({}, "stop"),
        _DONE,
    )

    assert (done.completion.text, done.completion.finish_reason) == ("", "content_filter")
    assert done.completion.refusal == "I cannot"


@pytest.mark.parametrize(
    "reply",
    [
        (),
        _HELLO,
        (*_HELLO, b'data: {"choices": [{"delta"'),
        (*_HELLO, b"data: [DO"),
        (orjson.dumps(_PLAIN)[:-9],),
        (*_HELLO, _chunk({}, "abort"), _DONE),
    ],
    ids=["nothing", "no finish", "mid-event", "mid-mark", "mid-document", "server gave up"],
)
async def test_a_reply_that_breaks_off_is_a_failure(server: Any, reply: tuple[bytes, ...]) -> None:
    """There is no completion for it, whatever came before."""
    done = await server.ask("openai", *reply)

    assert isinstance(done.error, ProviderUnavailableError)
    assert done.error.code == "stream_truncated"
    assert done.error.retryable


async def test_an_error_within_a_stream_comes_after_what_was_said(server: Any) -> None:
    """The HTTP status was 200."""
    error = {"error": {"message": "secret text", "code": 502}}

    done = await server.ask("openai", *_HELLO, _event(error))

    assert done.events == [TextDelta("Hi")]
    assert isinstance(done.error, ProviderUnavailableError)
    assert "secret" not in done.error.message


@pytest.mark.parametrize(
    "body",
    [
        b"data: {oops}\n\n",
        b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
        b"data: 7\n\n",
        b'data: {"choices": [7]}\n\n',
        b'data: {"choices": [{"delta": {"content": [{"type": "video"}]}}]}\n\n',
        b'{"choices": []}',
        b'{"id": "c1"}',
    ],
)
async def test_what_is_not_of_this_wire_is_an_invalid_reply(server: Any, body: bytes) -> None:
    """Bad JSON, bad UTF-8, another shape, content that is no text."""
    done = await server.ask("openai", body)

    assert isinstance(done.error, ReplyInvalidError)
    assert done.error.retryable


@pytest.mark.parametrize(
    "limits", [ReplyLimits(max_frame_bytes=500), ReplyLimits(max_reply_bytes=500)]
)
async def test_an_endless_reply_is_given_up(server: Any, limits: ReplyLimits) -> None:
    """Memory is bounded."""
    done = await server.ask("openai", b"data: " + b"x" * 300, b"x" * 300, limits=limits)

    assert isinstance(done.error, ReplyInvalidError)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(
                input_tokens=10,
                cached_tokens=4,
                cache_write_tokens=2,
                output_tokens=5,
                reasoning_tokens=3,
            ),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(input_tokens=10, output_tokens=35, reasoning_tokens=30),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 35,
                "prompt_tokens_details": {"audio_tokens": 20},
            },
            Usage(input_tokens=30, output_tokens=5),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 22},
            Usage(input_tokens=10, output_tokens=12, reasoning_tokens=7),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8},
            Usage(input_tokens=10, output_tokens=5, cached_tokens=8),
        ),
        ({"prompt_tokens": -1, "completion_tokens": "5"}, None),
    ],
    ids=["openai", "xai", "mistral audio", "gemini compatible", "deepseek", "nonsense"],
)
async def test_usage_is_counted_by_each_vendors_habit(
    server: Any, usage: dict[str, Any], expected: Usage | None
) -> None:
    """Input with the cache, output with reasoning."""
    done = await server.ask("openai", *_HELLO, _chunk({}, "stop", usage=usage), _DONE)

    assert done.completion.usage == expected


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.0012}, "0.0012"),
        ({"cost": 0}, "0"),
        (
            {
                "cost": 0.0001,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.002},
            },
            "0.0021",
        ),
        ({"cost": {"total_cost": 0.005}}, "0.005"),
        ({"cost_in_usd_ticks": 1466250}, "0.000146625"),
        ({"cost": "much"}, None),
        ({}, None),
    ],
)
async def test_a_reported_cost_is_exact(
    server: Any, usage: dict[str, Any], cost: str | None
) -> None:
    """OpenRouter, Perplexity, xAI."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, **usage}

    done = await server.ask("openai", *_HELLO, _chunk({}, "stop", usage=usage), _DONE)

    assert done.completion.reported_cost_usd == (None if cost is None else Decimal(cost))


@pytest.mark.parametrize(
    ("header", "stream", "cost"),
    [
        ("0.0034", False, "0.0034"),
        ("1e-05", False, "0.00001"),
        ("0.0", False, None),
        ("None", False, None),
        ("nan", False, None),
        ("0.0034", True, None),
    ],
)
async def test_a_proxys_cost_header_is_taken_for_a_plain_reply(
    server: Any, header: str, stream: bool, cost: str | None
) -> None:
    """A stream's headers go out before its cost is known; 0 stands for an unknown price."""
    done = await server.ask(
        "openai",
        orjson.dumps(_PLAIN),
        request=_request(stream=stream),
        headers={"x-litellm-response-cost": header},
    )

    assert done.completion.reported_cost_usd == (None if cost is None else Decimal(cost))


async def test_a_model_without_an_entry_can_be_asked(server: Any) -> None:
    """Entries may list no models."""
    done = await server.ask(
        "openai", *_HELLO, _chunk({}, "stop"), model=ModelEntry(max_output_tokens=5)
    )

    assert "max_tokens" not in done.sent


def _told(*log_probabilities: float | None) -> dict[str, Any]:
    return {"content": [{"token": "x", "logprob": each} for each in log_probabilities]}


@pytest.mark.parametrize("stream", [True, False])
async def test_how_probable_tokens_were_is_asked_and_read(server: Any, stream: bool) -> None:
    """The geometric mean; a token that is next to impossible counts as very improbable."""
    if stream:
        first, last = (
            _event({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": told, **more}]})
            for told, more in (
                (_told(log(0.9), log(0.4)), {}),
                (_told(log(0.6)), {"finish_reason": "stop"}),
            )
        )
        reply = [first, last, _DONE]
    else:
        choice = {**_PLAIN["choices"][0], "logprobs": _told(log(0.9), log(0.4), log(0.6))}
        reply = [orjson.dumps({**_PLAIN, "choices": [choice]})]
    done = await server.ask(
        "openai", *reply, request=_request(token_probabilities=True, stream=stream)
    )

    assert done.sent["logprobs"] is True
    assert done.completion.token_probability == pytest.approx(0.6, abs=1e-6)


@pytest.mark.parametrize("told", [None, {}, {"content": None}, {"content": []}])
async def test_servers_may_not_tell_how_probable_tokens_were(server: Any, told: Any) -> None:
    """Then it is not known, and nothing else changes."""
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": told, "finish_reason": "stop"}
    done = await server.ask("openai", _event({"choices": [choice]}), _DONE)

    assert "logprobs" not in done.sent
    assert (done.completion.text, done.completion.token_probability) == ("a", None)


@pytest.mark.parametrize("told", [None, -9999.0])
async def test_the_impossible_is_very_improbable(server: Any, told: float | None) -> None:
    """Never an error, nor more than certain."""
    choice = {
        "index": 0,
        "delta": {"content": "a"},
        "logprobs": _told(told),
        "finish_reason": "stop",
    }
    done = await server.ask("openai", _event({"choices": [choice]}), _DONE)

    assert done.completion.token_probability == 0.0
