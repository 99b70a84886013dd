"""The simulator as the pipeline's own adapters see it."""

from typing import Any, get_args

import orjson
import pytest

from millrace.providers.entry import Wire
from millrace.providers.protocol import Completion, ModelRequest, TextDelta
from millrace.providers.simulator.behaviour import ScriptedBehaviour
from millrace.providers.simulator.call import messages_sha256
from millrace.providers.simulator.ledger import Ledger, LedgerFilter, LedgerLine
from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.tokens import MARK, split_tokens
from millrace.schemas.errors import ErrorCode, ProviderError
from millrace.schemas.message import Message, ToolDefinition
from millrace.schemas.request import OutputSpec, Parameters

WIRES: tuple[Wire, ...] = get_args(Wire)
BOTH = pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
EVERY_WIRE = pytest.mark.parametrize("wire", WIRES)

QUESTION = "How do consumer groups rebalance?"


def _request(text: str = QUESTION, *, stream: bool = True, **fields: Any) -> ModelRequest:
    return ModelRequest(
        model="sim-large",
        messages=(
            Message(role="system", content="Be brief."),
            Message(role="user", content=text),
        ),
        stream=stream,
        **fields,
    )


async def _complete(provider: Any, request: ModelRequest) -> tuple[Completion, list[str]]:
    events = [event async for event in provider.ask(request)]
    completion = events[-1]
    assert isinstance(completion, Completion)
    return completion, [event.text for event in events if isinstance(event, TextDelta)]


def _ended(ledger: Ledger) -> bool:
    return any(ledger.lines()) and ledger.totals().open == 0


def _only_line(simulator: Simulator) -> LedgerLine:
    (line,) = simulator.ledger.lines()
    return line


@BOTH
@EVERY_WIRE
async def test_an_answer_comes_whole_and_counted(
    simulator: Simulator, adapter: Any, wire: Wire, stream: bool
) -> None:
    """Text, finish, usage and id are what the ledger says."""
    completion, deltas = await _complete(adapter(wire), _request(stream=stream))

    line = _only_line(simulator)
    usage = completion.usage
    assert usage is not None
    assert "".join(deltas) == completion.text
    assert completion.text.startswith(MARK)
    assert completion.finish_reason == "stop"
    assert (usage.input_tokens, usage.output_tokens) == (line.input_tokens, 20)
    assert len(split_tokens(completion.text)) == line.generated_tokens == line.sent_tokens
    assert (line.instance, line.wire, line.model) == (f"the-{wire}", wire, "sim-large")
    assert (line.status, line.stream, line.ended) == (200, stream, "complete")
    assert line.usage_reported
    assert line.messages_sha256 == messages_sha256([("system", "Be brief."), ("user", QUESTION)])
    if wire != "ollama":
        assert completion.response_id == line.id


async def test_every_wire_gives_the_same_answer(adapter: Any) -> None:
    """The wire is a dialect, not another model."""
    texts = {(await _complete(adapter(wire), _request()))[0].text for wire in WIRES}

    assert len(texts) == 1


@BOTH
@EVERY_WIRE
async def test_the_token_limit_is_honoured(adapter: Any, wire: Wire, stream: bool) -> None:
    """And reported as such."""
    request = _request(stream=stream, parameters=Parameters(max_output_tokens=7))

    completion, _ = await _complete(adapter(wire), request)

    assert completion.finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.output_tokens == 7


@EVERY_WIRE
async def test_a_stop_sequence_ends_the_answer(adapter: Any, wire: Wire) -> None:
    """It is not part of the text."""
    request = _request(
        '[[sim:answer="one; two"]]', parameters=Parameters(stop=("; ",), temperature=0.1)
    )

    completion, _ = await _complete(adapter(wire), request)

    assert (completion.text, completion.finish_reason) == ("one", "stop")


@BOTH
@EVERY_WIRE
async def test_json_schema_is_met(adapter: Any, wire: Wire, stream: bool) -> None:
    """Whether the wire has a field for it or a line in the prompt."""
    schema = {
        "type": "object",
        "properties": {"severity": {"enum": ["low", "high"]}, "lines": {"type": "integer"}},
        "required": ["severity", "lines"],
        "additionalProperties": False,
    }
    output = OutputSpec(format="json", schema=schema)

    completion, _ = await _complete(adapter(wire), _request(stream=stream, output=output))

    answer = orjson.loads(completion.text)
    assert answer["severity"] in ("low", "high")
    assert isinstance(answer["lines"], int)


@EVERY_WIRE
async def test_json_without_a_schema_is_json(adapter: Any, wire: Wire) -> None:
    """An object."""
    output = OutputSpec(format="json")

    completion, _ = await _complete(adapter(wire), _request(output=output))

    assert isinstance(orjson.loads(completion.text), dict)


@BOTH
@EVERY_WIRE
async def test_a_tool_call_comes_through(adapter: Any, wire: Wire, stream: bool) -> None:
    """Name, id where the wire has one, and arguments that fit."""
    tool = ToolDefinition(
        name="get_weather",
        parameters={
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    )
    request = _request("Call get_weather for Oslo.", stream=stream, tools=(tool,))

    completion, _ = await _complete(adapter(wire), request)

    (call,) = completion.tool_calls
    assert call.name == "get_weather"
    assert isinstance(orjson.loads(call.arguments)["city"], str)


@BOTH
@EVERY_WIRE
@pytest.mark.parametrize(
    ("directive", "code", "ended"),
    [
        ("http=429 retry_after=7", "rate_limited", "error"),
        ("http=500", "provider_unavailable", "error"),
        ("http=529", "provider_unavailable", "error"),
        ("http=401", "authentication_failed", "error"),
        ("cut=4", "stream_truncated", "cut"),
        ("cut=0", "stream_truncated", "cut"),
        ("cut_cleanly=4", "stream_truncated", "cut"),
        ("malformed=4", "reply_invalid", "error"),
        ("error_in_stream=4", "provider_unavailable", "error"),
        ("hang", "provider_timeout", "hung"),
        ("hang_mid=4", "provider_timeout", "hung"),
    ],
)
async def test_misbehaviour_is_noticed(
    *,
    simulator: Simulator,
    adapter: Any,
    wire: Wire,
    stream: bool,
    directive: str,
    code: ErrorCode,
    ended: str,
) -> None:
    """Each fault is an error of its kind, and stands in the ledger as what it was."""
    impatient = {"hang": {"first_token": 0.3}, "hang_mid=4": {"idle": 1.0}}.get(directive, {})
    with pytest.raises(ProviderError) as caught:
        await _complete(
            adapter(wire, **impatient), _request(f"x [[sim:{directive}]]", stream=stream)
        )
    await simulator.ledger.until(_ended)

    line = _only_line(simulator)
    in_whole_body = {"cut_cleanly", "malformed"} & {directive.partition("=")[0]}
    if stream or not in_whole_body:
        assert caught.value.code == code
    assert caught.value.retryable == (code != "authentication_failed")
    assert (line.ended, line.usage_reported) == (ended, code == "reply_invalid" and stream)
    if stream and directive.endswith("=4"):
        assert line.sent_tokens == (20 if code == "reply_invalid" else 4)
    if directive.startswith("http=429"):
        assert caught.value.retry_after == 7


@BOTH
@EVERY_WIRE
async def test_usage_may_be_left_out(
    simulator: Simulator, adapter: Any, wire: Wire, stream: bool
) -> None:
    """The reply is complete otherwise, and nobody makes the counts up."""
    request = _request("x [[sim:no_usage]]", stream=stream)

    completion, _ = await _complete(adapter(wire), request)

    assert completion.usage is None or completion.usage.source == "estimated"
    assert not _only_line(simulator).usage_reported


@EVERY_WIRE
async def test_a_scripted_failure_passes(simulator: Simulator, adapter: Any, wire: Wire) -> None:
    """The next call but one succeeds."""
    simulator.script(ScriptedBehaviour(instance=f"the-{wire}", http=503))
    provider = adapter(wire)

    with pytest.raises(ProviderError):
        await _complete(provider, _request())
    completion, _ = await _complete(provider, _request())

    assert completion.text
    assert [line.status for line in simulator.ledger.lines()] == [503, 200]


@EVERY_WIRE
async def test_the_adapter_can_check_its_server(adapter: Any, wire: Wire) -> None:
    """Each wire lists models."""
    await adapter(wire).check()


async def test_a_fallback_succeeds_where_the_first_call_failed(
    simulator: Simulator, adapter: Any
) -> None:
    """`times=1` counts over providers."""
    request = _request("x [[sim:http=500 times=1]]")

    with pytest.raises(ProviderError):
        await _complete(adapter("anthropic"), request)
    completion, _ = await _complete(adapter("gemini"), request)

    assert completion.text
    assert simulator.ledger.totals(LedgerFilter(fault="http")).calls == 1
