"""Another maker's mock of model servers, which speaks all four APIs, through our adapters."""

import json

import pytest
from third_party_calls import ask, connected, question, read
from third_party_servers import ANSWER, ServerProcess

from millrace.providers.entry import Wire
from millrace.providers.protocol import Completion, ProviderEvent, TextDelta, ToolArgumentsDelta
from millrace.schemas.errors import (
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    ReplyInvalidError,
    RequestRefusedError,
)
from millrace.schemas.message import ToolDefinition
from millrace.schemas.usage import Usage

pytestmark = pytest.mark.asyncio(loop_scope="session")
every_wire = pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini", "ollama"])
streamed_or_not = pytest.mark.parametrize("stream", [True, False])

LOOK_UP = ToolDefinition(
    name="look_up",
    parameters={"type": "object", "properties": {"thing": {"type": "string"}}},
)


@every_wire
@streamed_or_not
async def test_a_model_answers(mock_server: ServerProcess, wire: Wire, stream: bool) -> None:
    """The text, piece by piece where it is streamed, and the finish reason."""
    reply = await ask(mock_server.url, wire, question("talker", stream=stream))

    assert reply.completion.text == reply.text() == ANSWER
    assert reply.completion.finish_reason == "stop"


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
@streamed_or_not
async def test_the_servers_count_is_taken(
    mock_server: ServerProcess, wire: Wire, stream: bool
) -> None:
    """To the token, under the name that each API has for it. It counts nothing as Ollama."""
    reply = await ask(mock_server.url, wire, question("talker", stream=stream))

    expected = Usage(input_tokens=11, output_tokens=7, source="reported")
    assert reply.completion.usage == expected


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
@streamed_or_not
async def test_thinking_is_no_part_of_the_answer(
    mock_server: ServerProcess, wire: Wire, stream: bool
) -> None:
    """It comes apart from the text."""
    reply = await ask(mock_server.url, wire, question("thinker", stream=stream))

    assert reply.completion.reasoning == reply.reasoning() == "What drives it?"
    assert reply.completion.text == reply.text() == ANSWER


@every_wire
@streamed_or_not
async def test_a_tool_call_comes_whole(
    mock_server: ServerProcess, wire: Wire, stream: bool
) -> None:
    """Its name, its arguments, and in pieces that add up to them."""
    reply = await ask(mock_server.url, wire, question("any", stream=stream, tools=(LOOK_UP,)))

    (call,) = reply.completion.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("look_up", {"thing": "mill"})
    pieces = [each for each in reply.deltas if isinstance(each, ToolArgumentsDelta)]
    assert "".join(piece.arguments for piece in pieces) == call.arguments
    assert [piece.name for piece in pieces if piece.name] == ["look_up"]


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
@streamed_or_not
async def test_an_answer_that_is_cut_at_its_limit_says_so(
    mock_server: ServerProcess, wire: Wire, stream: bool
) -> None:
    """It is an answer, and not one that ended by itself."""
    reply = await ask(mock_server.url, wire, question("stopped", stream=stream))

    assert (reply.completion.text, reply.completion.finish_reason) == ("The wheel", "length")


@every_wire
@streamed_or_not
async def test_a_rate_limit_says_how_long_to_wait(
    mock_server: ServerProcess, wire: Wire, stream: bool
) -> None:
    """From the header `Retry-After`."""
    with pytest.raises(RateLimitedError) as caught:
        await ask(mock_server.url, wire, question("limited", stream=stream))

    assert (caught.value.code, caught.value.retry_after) == ("rate_limited", 7)


@every_wire
@streamed_or_not
async def test_a_server_that_fails_may_be_asked_again(
    mock_server: ServerProcess, wire: Wire, stream: bool
) -> None:
    """And what it said in its own words is not shown."""
    with pytest.raises(ProviderUnavailableError) as caught:
        await ask(mock_server.url, wire, question("failing", stream=stream))

    assert (caught.value.code, caught.value.retryable) == ("provider_unavailable", True)
    assert "no more words" not in caught.value.message


@every_wire
async def test_a_wrong_key_is_refused_and_not_shown(mock_server: ServerProcess, wire: Wire) -> None:
    """In whichever header the API has the key."""
    wrong = "sk-nobody-gave-me-this"

    with pytest.raises(RequestRefusedError) as caught:
        await ask(mock_server.url, wire, question("talker", stream=True), key=wrong)

    assert caught.value.code == "authentication_failed"
    assert wrong not in caught.value.message


@every_wire
@streamed_or_not
async def test_a_model_that_the_server_does_not_have_is_not_found(
    mock_server: ServerProcess, wire: Wire, stream: bool
) -> None:
    """Which asking again does not change."""
    with pytest.raises(RequestRefusedError) as caught:
        await ask(mock_server.url, wire, question("nobody-has-it", stream=stream))

    assert (caught.value.code, caught.value.retryable) == ("model_not_found", False)


@every_wire
async def test_a_stream_that_breaks_off_is_a_failure(
    mock_server: ServerProcess, wire: Wire
) -> None:
    """The server drops the connection after a few pieces: they came, and no completion did."""
    came: list[ProviderEvent] = []

    async with connected(mock_server.url, wire, "breaking") as provider:
        with pytest.raises(ProviderUnavailableError) as caught:
            await read(provider.ask(question("breaking", stream=True)), into=came)

    assert (caught.value.code, caught.value.retryable) == ("stream_truncated", True)
    assert any(isinstance(each, TextDelta) for each in came)
    assert not any(isinstance(each, Completion) for each in came)


@every_wire
@streamed_or_not
async def test_a_body_that_is_no_json_is_a_failure(
    mock_server: ServerProcess, wire: Wire, stream: bool
) -> None:
    """Though its status says that all is well."""
    with pytest.raises(ProviderError) as caught:
        await ask(mock_server.url, wire, question("garbling", stream=stream))

    assert isinstance(caught.value, ReplyInvalidError | ProviderUnavailableError)
    assert caught.value.retryable


@every_wire
async def test_the_server_can_be_checked(mock_server: ServerProcess, wire: Wire) -> None:
    """With the right key it is well, with another it is not."""
    async with connected(mock_server.url, wire) as provider:
        await provider.check()

    async with connected(mock_server.url, wire, key="sk-nobody-gave-me-this") as provider:
        with pytest.raises(RequestRefusedError) as caught:
            await provider.check()
    assert caught.value.code == "authentication_failed"
