"""The ollama wire, both ways."""

from typing import Any

import orjson
import pytest

from millrace.providers.entry import ModelEntry
from millrace.providers.protocol import ModelRequest, ReasoningDelta, TextDelta, UsageSoFar
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


def _line(content: str = "", **fields: Any) -> bytes:
    message = {"role": "assistant", "content": content, **fields.pop("message", {})}
    return orjson.dumps({"model": "m:1", "message": message, "done": False, **fields}) + b"\n"


def _end(**fields: Any) -> bytes:
    counted = {"prompt_eval_count": 5, "eval_count": 9, "load_duration": 2_500_000}
    return _line(done=True, done_reason="stop", **{**counted, **fields})


async def test_a_request_is_written_as_the_wire_has_it(server: Any) -> None:
    """The model's context window is asked for, else the server would cut long prompts."""
    parameters = Parameters(temperature=0.2, top_p=0.9, max_output_tokens=50, stop=("END",), seed=7)

    done = await server.ask(
        "ollama",
        _end(),
        request=_request(parameters=parameters),
        model=ModelEntry(context_window=8192),
    )

    assert str(done.request.url) == "http://server/base/api/chat"
    assert "authorization" not in done.request.headers
    assert done.sent == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "options": {
            "num_predict": 50,
            "num_ctx": 8192,
            "temperature": 0.2,
            "top_p": 0.9,
            "stop": ["END"],
            "seed": 7,
        },
    }


async def test_tools_calls_results_and_images_pass_through(server: Any) -> None:
    """A result names its tool, as this wire has no ids."""
    image = ImagePart(type="image", data="QUJD", media_type="image/png")
    conversation = (
        Message(role="user", content=(TextPart(type="text", text="Look"), image)),
        Message(role="assistant", tool_calls=(ToolCall(name="a", arguments='{"x":1}'),)),
        Message(role="tool", content="one"),
    )
    tools = (ToolDefinition(name="a", parameters={"type": "object"}),)

    done = await server.ask("ollama", _end(), request=_request(*conversation, tools=tools))

    assert done.sent["tools"] == [
        {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}}
    ]
    assert done.sent["messages"] == [
        {"role": "user", "content": "Look", "images": ["QUJD"]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "a", "arguments": {"x": 1}}}],
        },
        {"role": "tool", "content": "one", "tool_name": "a"},
    ]


async def test_a_choice_of_no_tool_leaves_the_tools_out(server: Any) -> None:
    """The wire has no such setting."""
    done = await server.ask(
        "ollama",
        _end(),
        request=_request(
            tools=(ToolDefinition(name="a"),), parameters=Parameters(tool_choice="none")
        ),
    )

    assert "tools" not in done.sent


@pytest.mark.parametrize(
    "request_",
    [
        _request(Message(role="user", content=(ImagePart(type="image", url="https://x/y.png"),))),
        _request(tools=(ToolDefinition(name="a"),), parameters=Parameters(tool_choice="required")),
    ],
    ids=["image by URL", "tool demanded"],
)
async def test_what_the_wire_cannot_carry_is_refused_unsent(
    server: Any, request_: ModelRequest
) -> None:
    """With a sentence that says what to do."""
    provider = server.provider("ollama")

    with pytest.raises(RequestRefusedError, match="ollama"):
        [_ async for _ in provider.ask(request_)]

    assert server.requests == []


@pytest.mark.parametrize("schema", [None, {"type": "array"}])
async def test_json_is_asked_for(server: Any, schema: dict[str, Any] | None) -> None:
    """By the schema itself, or by the word."""
    output = OutputSpec(format="json", json_schema=schema)

    done = await server.ask("ollama", _end(), request=_request(output=output))

    assert done.sent["format"] == (schema or "json")


async def test_a_stream_is_read_line_by_line(server: Any) -> None:
    """Thinking, text and calls, then counts and how long the model took to load."""
    call = {"function": {"name": "f", "arguments": {"a": 1}}}

    done = await server.ask(
        "ollama",
        _line(message={"thinking": "Hm."}),
        _line("Hi"),
        _line(message={"tool_calls": [call]}),
        _end(),
        b"never read",
    )

    assert done.events[:2] == [ReasoningDelta("Hm."), TextDelta("Hi")]
    assert done.events[-2] == UsageSoFar(Usage(input_tokens=5, output_tokens=9))
    assert done.completion.tool_calls == (ToolCall(name="f", arguments='{"a":1}'),)
    assert done.completion.finish_reason == "tool_calls"
    assert done.completion.load_ms == pytest.approx(2.5)
    assert done.completion.model == "m:1"


async def test_input_that_was_not_counted_is_estimated_and_marked_so(server: Any) -> None:
    """The server leaves it out when its cache held the prompt."""
    done = await server.ask("ollama", _line("Hi"), _end(prompt_eval_count=None))

    usage = done.completion.usage
    assert usage is not None
    assert usage.source == "estimated"
    assert usage.input_tokens > 0
    assert usage.output_tokens == 9


async def test_a_reply_without_counts_has_no_usage(server: Any) -> None:
    """Nothing is guessed here."""
    done = await server.ask("ollama", _end(prompt_eval_count=None, eval_count=None))

    assert done.completion.usage is None


@pytest.mark.parametrize(
    "reply",
    [(), (_line("Hi"),), (_line("Hi"), _end()[:-30])],
    ids=["nothing", "no end", "mid-line"],
)
async def test_a_reply_that_breaks_off_is_a_failure(server: Any, reply: tuple[bytes, ...]) -> None:
    """Only `done` ends a reply."""
    done = await server.ask("ollama", *reply)

    assert isinstance(done.error, ProviderUnavailableError)
    assert done.error.code == "stream_truncated"


async def test_an_error_line_is_raised(server: Any) -> None:
    """It is a plain string, which may quote anything."""
    done = await server.ask("ollama", _line("Hi"), b'{"error": "secret: runner crashed"}\n')

    assert isinstance(done.error, ProviderUnavailableError)
    assert "secret" not in done.error.message


async def test_what_is_not_of_this_wire_is_an_invalid_reply(server: Any) -> None:
    """A web server's page, for one."""
    done = await server.ask("ollama", b"<html>\n")

    assert isinstance(done.error, ReplyInvalidError)


async def test_what_follows_the_end_counts_for_nothing(server: Any) -> None:
    """Also in the same piece of the body."""
    done = await server.ask("ollama", _line("Hi") + _end() + _line(" there") + b"{broken\n")

    assert done.completion.text == "Hi"
