"""The gemini wire, both ways."""

from typing import Any

import orjson
import pytest

from millrace.providers.protocol import ModelRequest, ReasoningDelta, TextDelta, UsageSoFar
from millrace.schemas.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    ReplyInvalidError,
    RequestRefusedError,
)
from millrace.schemas.message import ImagePart, Message, TextPart, ToolCall, ToolDefinition
from millrace.schemas.request import OutputSpec, Parameters
from millrace.schemas.usage import Usage

_USER = Message(role="user", content="Hello")


def _request(*messages: Message, model: str = "gemini-2.5-flash", **settings: Any) -> ModelRequest:
    return ModelRequest(model=model, messages=messages or (_USER,), **settings)


def _frame(*parts: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "g", "responseId": "r", **more}


def _event(document: Any) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\r\n\r\n"


_STOP = _event(_frame({"text": "!"}, finish="STOP"))


async def test_a_request_is_written_as_the_wire_has_it(server: Any) -> None:
    """The model in the path, the key in a header and never in the URL."""
    parameters = Parameters(temperature=0.2, top_p=0.9, max_output_tokens=50, stop=("END",), seed=7)

    done = await server.ask(
        "gemini",
        _STOP,
        request=_request(Message(role="system", content="Be brief."), _USER, parameters=parameters),
        api_key_env=("KEY",),
        environ={"KEY": "AIza1"},
    )

    assert str(done.request.url) == (
        "http://server/base/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    )
    assert done.request.headers["x-goog-api-key"] == "AIza1"
    assert done.sent == {
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {
            "maxOutputTokens": 50,
            "temperature": 0.2,
            "topP": 0.9,
            "stopSequences": ["END"],
            "seed": 7,
        },
    }


@pytest.mark.parametrize(
    ("base_url", "model", "url"),
    [
        ("http://s/v1", "g", "http://s/v1/models/g:generateContent"),
        ("http://s/v1beta/", "g", "http://s/v1beta/models/g:generateContent"),
        ("http://s", "tunedModels/g", "http://s/v1beta/tunedModels/g:generateContent"),
        ("http://s", "g?x=1", "http://s/v1beta/models/g%3Fx%3D1:generateContent"),
    ],
)
async def test_the_path_follows_base_url_and_model(
    server: Any, base_url: str, model: str, url: str
) -> None:
    """A base URL may name the version; a model's name cannot break out of its place."""
    done = await server.ask(
        "gemini",
        orjson.dumps(_frame({"text": "Hi"}, finish="STOP")),
        request=_request(model=model, stream=False),
        base_url=base_url,
    )

    assert str(done.request.url) == url
    assert done.completion.text == "Hi"


@pytest.mark.parametrize(
    ("model", "signed"), [("gemini-2.5-pro", False), ("gemini-3-pro-preview", True)]
)
async def test_tools_calls_results_and_images_pass_through(
    server: Any, model: str, signed: bool
) -> None:
    """Newer models want a signature on calls, for which there is a word when none is at hand."""
    conversation = (
        Message(
            role="user",
            content=(
                TextPart(type="text", text="Look"),
                ImagePart(type="image", data="QUJD", media_type="image/png"),
                ImagePart(type="image", url="gs://b/y.png", media_type="image/png"),
            ),
        ),
        Message(
            role="assistant",
            tool_calls=(
                ToolCall(name="a", arguments='{"x":1}'),
                ToolCall(name="b", arguments="{}"),
            ),
        ),
        Message(role="tool", content='{"sum": 2}'),
        Message(role="tool", content="two"),
    )
    tools = (ToolDefinition(name="a", description="A.", parameters={"type": "object"}),)

    done = await server.ask(
        "gemini",
        _STOP,
        request=_request(
            *conversation, model=model, tools=tools, parameters=Parameters(tool_choice="none")
        ),
    )

    mark = {"thoughtSignature": "skip_thought_signature_validator"} if signed else {}
    assert done.sent["tools"] == [
        {
            "functionDeclarations": [
                {"name": "a", "description": "A.", "parametersJsonSchema": {"type": "object"}}
            ]
        }
    ]
    assert done.sent["toolConfig"] == {"functionCallingConfig": {"mode": "NONE"}}
    assert done.sent["contents"] == [
        {
            "role": "user",
            "parts": [
                {"text": "Look"},
                {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
                {"fileData": {"fileUri": "gs://b/y.png", "mimeType": "image/png"}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "call_1", "name": "a", "args": {"x": 1}}, **mark},
                {"functionCall": {"id": "call_2", "name": "b", "args": {}}, **mark},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "call_1", "name": "a", "response": {"sum": 2}}},
                {
                    "functionResponse": {
                        "id": "call_2",
                        "name": "b",
                        "response": {"result": "two"},
                    }
                },
            ],
        },
    ]


async def test_json_is_asked_for(server: Any) -> None:
    """With the schema where there is one."""
    schema = {"type": "array"}

    done = await server.ask(
        "gemini", _STOP, request=_request(output=OutputSpec(format="json", json_schema=schema))
    )

    assert done.sent["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }


async def test_a_stream_is_read_part_by_part(server: Any) -> None:
    """Thoughts, text and calls; code that the server ran is passed over."""
    done = await server.ask(
        "gemini",
        _event(_frame({"text": "Hm.", "thought": True}, usageMetadata={"promptTokenCount": 5})),
        _event(_frame({"executableCode": {"code": "1+1"}}, {"codeExecutionResult": {}})),
        _event(_frame({"text": "Hi"}, {"text": "", "thoughtSignature": "abc"})),
        _event(
            _frame({"functionCall": {"name": "f", "args": {"a": 1}}}, {"thoughtSignature": "x"})
        ),
        _event(
            _frame(
                finish="STOP",
                usageMetadata={
                    "promptTokenCount": 5,
                    "toolUsePromptTokenCount": 3,
                    "cachedContentTokenCount": 2,
                    "candidatesTokenCount": 7,
                    "thoughtsTokenCount": 4,
                },
            )
        ),
    )

    assert done.events[:3] == [
        UsageSoFar(Usage(input_tokens=5)),
        ReasoningDelta("Hm."),
        TextDelta("Hi"),
    ]
    assert done.completion.tool_calls == (ToolCall(name="f", arguments='{"a":1}'),)
    assert done.completion.finish_reason == "tool_calls"
    assert done.completion.usage == Usage(
        input_tokens=8, cached_tokens=2, output_tokens=11, reasoning_tokens=4
    )
    assert (done.completion.model, done.completion.response_id) == ("g", "r")


async def test_an_array_of_frames_is_read_too(server: Any) -> None:
    """As a gateway sends them that does not know `alt=sse`."""
    frames = [_frame({"text": "Hi"}), _frame({"text": "!"}, finish="STOP")]

    done = await server.ask("gemini", orjson.dumps(frames))

    assert done.completion.text == "Hi!"


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "other"),
    ],
)
async def test_finish_reasons_are_ours(server: Any, reason: str, ours: str) -> None:
    """In one vocabulary."""
    done = await server.ask("gemini", _event(_frame(finish=reason)))

    assert done.completion.finish_reason == ours


async def test_a_blocked_prompt_is_refused_after_its_usage(server: Any) -> None:
    """The input may have been billed."""
    blocked = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "secret"},
        "usageMetadata": {"promptTokenCount": 9},
    }

    done = await server.ask("gemini", orjson.dumps(blocked), request=_request(stream=False))

    assert done.events == [UsageSoFar(Usage(input_tokens=9))]
    assert isinstance(done.error, RequestRefusedError)
    assert done.error.code == "content_filtered"
    assert "PROHIBITED_CONTENT" in done.error.message
    assert "secret" not in done.error.message


@pytest.mark.parametrize(
    "reply",
    [
        (),
        (_event(_frame({"text": "Hi"})),),
        (_event(_frame({"text": "Hi"})), _STOP[:-20]),
        (orjson.dumps([_frame({"text": "Hi"})]),),
    ],
    ids=["nothing", "no finish", "mid-frame", "array without finish"],
)
async def test_a_reply_that_breaks_off_is_a_failure(server: Any, reply: tuple[bytes, ...]) -> None:
    """There is no end mark: only a finish reason tells."""
    done = await server.ask("gemini", *reply)

    assert isinstance(done.error, ProviderUnavailableError)
    assert done.error.code == "stream_truncated"


async def test_an_error_within_a_stream_is_raised(server: Any) -> None:
    """By the status it names."""
    error = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "secret"}}

    done = await server.ask("gemini", _event(_frame({"text": "Hi"})), _event(error))

    assert isinstance(done.error, RateLimitedError)
    assert "RESOURCE_EXHAUSTED" in done.error.message


@pytest.mark.parametrize(
    "reply", [b"{}", _event(_frame({"inlineData": {"data": "QUJD"}})), _event({"candidates": [1]})]
)
async def test_what_is_not_of_this_wire_is_an_invalid_reply(server: Any, reply: bytes) -> None:
    """No candidates, content that is no text, another shape."""
    done = await server.ask("gemini", reply)

    assert isinstance(done.error, ReplyInvalidError)


@pytest.mark.parametrize("model", ["gemini-2.5-pro", "gemini-3-pro-preview"])
async def test_the_signature_of_a_call_comes_along_and_goes_back(server: Any, model: str) -> None:
    """Of each call its own; the vendor refuses a conversation in which one was exchanged."""
    call = {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"}
    other = {"functionCall": {"name": "g", "args": {}}}
    done = await server.ask("gemini", _event(_frame(call, other, finish="STOP")))

    made = done.completion.tool_calls
    assert [each.signature for each in made] == ["c2ln", None]

    again = await server.ask(
        "gemini",
        _STOP,
        request=_request(
            Message(role="user", content="x"),
            Message(role="assistant", tool_calls=made),
            Message(role="tool", content="1"),
            Message(role="tool", content="2"),
            model=model,
        ),
    )
    parts = again.sent["contents"][1]["parts"]
    assert parts[0]["thoughtSignature"] == "c2ln"
    unsigned = "skip_thought_signature_validator" if "-3-" in model else None
    assert parts[1].get("thoughtSignature") == unsigned
