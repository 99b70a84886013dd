"""The simulator as a real upstream behind a LiteLLM proxy: nothing is lost on either hop."""

import asyncio
import itertools
import json

import pytest
from third_party_calls import ask, connected, question, read
from third_party_servers import ServerProcess

from millrace.providers.entry import Wire
from millrace.providers.protocol import Completion, ProviderEvent, TextDelta, ToolArgumentsDelta
from millrace.providers.simulator.ledger import Ledger, LedgerFilter, LedgerLine
from millrace.providers.simulator.server import Simulator
from millrace.schemas.errors import ErrorCode, ProviderError, ProviderUnavailableError
from millrace.schemas.message import ToolDefinition
from millrace.schemas.request import Parameters

pytestmark = pytest.mark.asyncio(loop_scope="session")
every_way = pytest.mark.parametrize(
    ("wire", "model"),
    list(itertools.product(["openai", "anthropic"], ["openai-upstream", "anthropic-upstream"])),
)
streamed_or_not = pytest.mark.parametrize("stream", [True, False])
_numbers = itertools.count(1)

LOOK_UP = ToolDefinition(
    name="look_up",
    description="Looks a thing up.",
    parameters={
        "type": "object",
        "properties": {"thing": {"type": "string"}},
        "required": ["thing"],
        "additionalProperties": False,
    },
)


def labelled(simulate: str = "") -> tuple[str, str]:
    """A label that no other call has, and a prompt by which the upstream's ledger bears it."""
    label = f"two-hops-{next(_numbers)}"
    return label, f"Why does it turn? [[sim:label={json.dumps(label)} {simulate}]]"


async def sold(upstream: Simulator, label: str) -> LedgerLine:
    """The upstream's own account of a call, once it has ended."""
    wanted = LedgerFilter(label=label)

    def ended(ledger: Ledger) -> bool:
        lines = list(ledger.lines(wanted))
        return bool(lines) and all(line.ended != "open" for line in lines)

    async with asyncio.timeout(20):
        await upstream.ledger.until(ended)
    (line,) = upstream.ledger.lines(wanted)
    return line


@every_way
@streamed_or_not
async def test_what_is_counted_is_what_the_upstream_sold(
    litellm: ServerProcess, upstream: Simulator, wire: Wire, model: str, stream: bool
) -> None:
    """To the token, though the proxy translates from one vendor's API to another's."""
    label, prompt = labelled('answer="Water falls on it, always."')
    reply = await ask(litellm.url, wire, question(model, stream=stream, prompt=prompt))
    line = await sold(upstream, label)

    completion = reply.completion
    assert completion.text == reply.text() == "Water falls on it, always."
    assert completion.finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.source == "reported"
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (
        line.input_tokens,
        line.generated_tokens,
    )
    assert (line.instance, line.stream) == (f"behind-{model.removesuffix('-upstream')}", stream)


@every_way
async def test_tokens_come_as_they_are_made(
    litellm: ServerProcess, upstream: Simulator, wire: Wire, model: str
) -> None:
    """The first is here while the upstream still has others to make."""
    label, prompt = labelled("tokens=60 pace=40")

    async with connected(litellm.url, wire, model) as provider:
        events = provider.ask(question(model, stream=True, prompt=prompt))
        async for event in events:
            if isinstance(event, TextDelta):
                break
        (line,) = upstream.ledger.lines(LedgerFilter(label=label))
        assert line.ended == "open"
        await events.aclose()


@every_way
async def test_a_caller_that_leaves_ends_the_upstreams_work(
    litellm: ServerProcess, upstream: Simulator, wire: Wire, model: str
) -> None:
    """Closing the stream reaches through the proxy: the rest is not made, nor paid for."""
    label, prompt = labelled("tokens=4000 pace=40")

    async with connected(litellm.url, wire, model) as provider:
        events = provider.ask(question(model, stream=True, prompt=prompt))
        async for event in events:
            if isinstance(event, TextDelta):
                break
        await events.aclose()
    line = await sold(upstream, label)

    assert line.ended == "client_gone"
    assert line.generated_tokens < 4000


@every_way
@streamed_or_not
async def test_an_answer_that_is_cut_at_its_limit_says_so(
    litellm: ServerProcess, upstream: Simulator, wire: Wire, model: str, stream: bool
) -> None:
    """The limit goes to the upstream, and `length` comes back."""
    label, prompt = labelled("tokens=50")
    request = question(
        model, stream=stream, prompt=prompt, parameters=Parameters(max_output_tokens=10)
    )
    reply = await ask(litellm.url, wire, request)

    assert reply.completion.finish_reason == "length"
    assert (await sold(upstream, label)).generated_tokens == 10


@every_way
@streamed_or_not
async def test_a_tool_call_comes_whole(
    litellm: ServerProcess, upstream: Simulator, wire: Wire, model: str, stream: bool
) -> None:
    """The definition goes to the upstream, and its call comes back, piece by piece."""
    label, prompt = labelled()
    request = question(
        model,
        stream=stream,
        prompt=prompt,
        tools=(LOOK_UP,),
        parameters=Parameters(tool_choice="required"),
    )
    reply = await ask(litellm.url, wire, request)
    line = await sold(upstream, label)

    (call,) = reply.completion.tool_calls
    assert (call.name, list(json.loads(call.arguments))) == ("look_up", ["thing"])
    assert call.id
    pieces = [each for each in reply.deltas if isinstance(each, ToolArgumentsDelta)]
    assert "".join(piece.arguments for piece in pieces) == call.arguments
    assert reply.completion.finish_reason == "tool_calls"
    assert reply.completion.usage is not None
    assert reply.completion.usage.output_tokens == line.generated_tokens


@every_way
@streamed_or_not
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("http=429 retry_after=7", "rate_limited"),
        ("http=401", "authentication_failed"),
        ("http=500", "provider_unavailable"),
        ("http=529", "provider_unavailable"),
    ],
)
async def test_a_failure_of_the_upstream_is_one_of_the_call(
    litellm: ServerProcess,
    *,
    wire: Wire,
    model: str,
    stream: bool,
    fault: str,
    code: ErrorCode,
) -> None:
    """Whatever the proxy makes of it, it is never taken for an answer."""
    _, prompt = labelled(fault)

    with pytest.raises(ProviderError) as caught:
        await ask(litellm.url, wire, question(model, stream=stream, prompt=prompt))

    assert caught.value.code == code
    assert caught.value.retryable == (code != "authentication_failed")


@every_way
@pytest.mark.parametrize("fault", ["cut after=5", "cut_cleanly after=5", "malformed after=5"])
async def test_a_plain_reply_that_is_not_whole_is_a_failure(
    litellm: ServerProcess, wire: Wire, model: str, fault: str
) -> None:
    """The proxy could not read it, and says so."""
    _, prompt = labelled(fault)

    with pytest.raises(ProviderUnavailableError) as caught:
        await ask(litellm.url, wire, question(model, stream=False, prompt=prompt))

    assert (caught.value.code, caught.value.retryable) == ("provider_unavailable", True)


@every_way
@pytest.mark.parametrize("fault", ["cut after=12", "error_in_stream after=12"])
async def test_a_stream_that_breaks_after_tokens_went_out_is_a_failure(
    litellm: ServerProcess, wire: Wire, model: str, fault: str
) -> None:
    """What came before it was read, and then there is an error in place of a completion."""
    _, prompt = labelled(f"{fault} tokens=40 pace=40")
    came: list[ProviderEvent] = []

    async with connected(litellm.url, wire, model) as provider:
        with pytest.raises(ProviderError) as caught:
            await read(provider.ask(question(model, stream=True, prompt=prompt)), into=came)

    assert any(isinstance(each, TextDelta) for each in came)
    assert not any(isinstance(each, Completion) for each in came)
    assert caught.value.retryable
