"""The simulator over bare HTTP: headers, pace, clients that leave, its own endpoints."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from millrace.providers.simulator.behaviour import Behaviour, StandingRate
from millrace.providers.simulator.ledger import LedgerFilter
from millrace.providers.simulator.server import Simulator, serve
from millrace.providers.simulator.settings import InstanceSettings, SimulatorSettings
from millrace.schemas.errors import ConfigurationError

OPENAI = "/a/openai/v1/chat/completions"


class _LeapingClock:
    """Time passes when somebody waits for it, and at once."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def elapsed(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def _body(text: str = "Tell me something.", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


def _stream(text: str = "Tell me something.", **fields: Any) -> dict[str, Any]:
    return _body(text, stream=True, stream_options={"include_usage": True}, **fields)


async def test_every_answer_says_that_it_is_simulated(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    """In a header, errors and lists included."""
    for reply in (
        await http.post(simulator.url + OPENAI, json=_body()),
        await http.post(simulator.url + OPENAI, json=_stream()),
        await http.post(simulator.url + OPENAI, json=_body("[[sim:http=500]]")),
        await http.get(f"{simulator.url}/a/ollama/api/version"),
        await http.get(f"{simulator.url}/a/openai/v1/models"),
    ):
        assert reply.headers["x-millrace-simulated"] == "1"
        await reply.read()


async def test_usage_comes_in_a_stream_only_when_asked(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    """As OpenAI's `stream_options.include_usage` has it."""
    asked = await (await http.post(simulator.url + OPENAI, json=_stream())).text()
    not_asked = await (await http.post(simulator.url + OPENAI, json=_body(stream=True))).text()

    assert '"prompt_tokens"' in asked
    assert "usage" not in not_asked
    assert not_asked.endswith("data: [DONE]\n\n")
    assert [line.usage_reported for line in simulator.ledger.lines()] == [True, False]


async def test_an_error_says_when_to_come_again(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    """In the header, and in the body where the wire has it there."""
    gemini = f"{simulator.url}/a/gemini/v1beta/models/m:generateContent"
    contents = {"contents": [{"parts": [{"text": "[[sim:http=429 retry_after=3]]"}]}]}

    reply = await http.post(gemini, json=contents)

    error = (await reply.json(content_type=None))["error"]
    assert (reply.status, reply.headers["retry-after"]) == (429, "3")
    assert (error["status"], error["details"][0]["retryDelay"]) == ("RESOURCE_EXHAUSTED", "3s")


async def test_tokens_come_at_the_set_pace(http: aiohttp.ClientSession) -> None:
    """First the time to the first token, then one token after the other."""
    clock = _LeapingClock()
    settings = SimulatorSettings(
        answer_tokens=(10, 10), time_to_first_token_ms=500, tokens_per_second=4
    )
    async with Simulator(settings, clock=clock) as simulator:
        reply = await http.post(simulator.url + OPENAI, json=_stream())
        await reply.read()
        streamed = clock.seconds - 1000
        await (await http.post(simulator.url + OPENAI, json=_body())).read()

    assert streamed == pytest.approx(0.5 + 9 / 4)
    assert clock.seconds - 1000 - streamed == pytest.approx(0.5 + 10 / 4)


async def test_a_token_is_an_event_and_comes_when_it_is_due(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    """The first ones arrive while the last ones are still far off."""
    reply = await http.post(simulator.url + OPENAI, json=_stream("x [[sim:tokens=3 slow]]"))

    first = await reply.content.readuntil(b"}\n\n")
    second = await reply.content.readuntil(b"}\n\n")
    reply.close()

    assert b'"role":"assistant"' in first
    assert b'"content":"[simulated]"' in second


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_a_client_that_leaves_stands_in_the_ledger(
    simulator: Simulator, http: aiohttp.ClientSession, stream: bool
) -> None:
    """With the tokens sent until then."""
    body = _body("x [[sim:tokens=50 latency=0 pace=20]]", stream=stream)
    posting = asyncio.ensure_future(http.post(simulator.url + OPENAI, json=body))
    await simulator.ledger.until(lambda ledger: ledger.totals().open == 1)
    if stream:
        reply = await posting
        for _ in range(4):
            await reply.content.readuntil(b"}\n\n")
        reply.close()
    else:
        posting.cancel()
    await simulator.ledger.until(lambda ledger: ledger.totals().open == 0)

    (line,) = simulator.ledger.lines()
    assert (line.ended, line.usage_reported) == ("client_gone", False)
    assert (3 if stream else 0) <= line.sent_tokens < 50
    assert line.sent_tokens <= line.generated_tokens < 50


async def test_a_hung_call_is_known_while_it_hangs(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    """And no byte has come."""
    posting = asyncio.ensure_future(http.post(simulator.url + OPENAI, json=_body("[[sim:hang]]")))
    await simulator.ledger.until(lambda ledger: any(ledger.lines(LedgerFilter(ended="hung"))))

    (line,) = simulator.ledger.lines()
    assert (line.status, line.ended_at) == (None, None)
    assert not posting.done()
    posting.cancel()
    await simulator.ledger.until(lambda _: line.ended_at is not None)


async def test_stopping_ends_calls_under_way(http: aiohttp.ClientSession) -> None:
    """At once, and their lines say so."""
    async with Simulator() as simulator:
        posting = asyncio.ensure_future(
            http.post(simulator.url + OPENAI, json=_body("[[sim:latency=60000]]"))
        )
        await simulator.ledger.until(lambda ledger: ledger.totals().open == 1)

    with pytest.raises(aiohttp.ClientError):
        await posting
    assert [line.ended for line in simulator.ledger.lines()] == ["stopped"]
    with pytest.raises(ConfigurationError, match="does not run"):
        _ = simulator.url


async def test_many_calls_at_once_leave_a_line_each(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    """Well-behaved, cut and refused ones alike."""
    faults = ("", "[[sim:cut=5]]", "[[sim:http=500]]", "[[sim:error_in_stream=5]]")

    async def ask(index: int) -> None:
        text = f"question {index} {faults[index % 4]}"
        reply = await http.post(simulator.url + OPENAI, json=_stream(text))
        try:
            await reply.read()
        except aiohttp.ClientPayloadError:
            assert index % 4 == 1

    await asyncio.gather(*(ask(index) for index in range(400)))

    ends = [
        simulator.ledger.totals(LedgerFilter(ended=ended)).calls
        for ended in ("complete", "cut", "error")
    ]
    assert ends == [100, 100, 200]
    totals = simulator.ledger.totals()
    assert (totals.calls, totals.sent_tokens) == (400, 100 * 20 + 200 * 5)


async def test_standing_rates_are_of_their_instance(http: aiohttp.ClientSession) -> None:
    """The neighbour does not notice."""
    always = StandingRate(share=1, behaviour=Behaviour(http=529))
    settings = SimulatorSettings(instances={"bad": InstanceSettings(rates=(always,))})
    async with Simulator(settings) as simulator:
        statuses = [
            (
                await http.post(
                    f"{simulator.url}/{instance}/openai/v1/chat/completions", json=_body()
                )
            ).status
            for instance in ("bad", "good")
        ]

    assert statuses == [529, 200]


async def test_an_instance_with_models_of_its_own_refuses_others(
    http: aiohttp.ClientSession,
) -> None:
    """As the provider does, and lists those it has."""
    settings = SimulatorSettings(instances={"a": InstanceSettings(models=("only",))})
    async with Simulator(settings) as simulator:
        refused = await http.post(simulator.url + OPENAI, json=_body())
        listed = await (await http.get(f"{simulator.url}/a/openai/v1/models")).json()

    assert refused.status == 404
    assert (await refused.json())["error"]["code"] == "model_not_found"
    assert [model["id"] for model in listed["data"]] == ["only"]


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_a_repeated_beginning_is_counted_as_cached(
    http: aiohttp.ClientSession, wire: str
) -> None:
    """In each provider's own way, where the setting is on."""
    text = "word " * 2000
    content = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
    asked = _body(messages=[{"role": "user", "content": content if wire == "anthropic" else text}])
    async with Simulator(SimulatorSettings(prompt_cache=True)) as simulator:
        path = OPENAI if wire == "openai" else "/a/anthropic/v1/messages"
        headers = {"anthropic-version": "2023-06-01"}
        usages = [
            (
                await (
                    await http.post(
                        simulator.url + path, json=asked | {"max_tokens": 9}, headers=headers
                    )
                ).json()
            )["usage"]
            for _ in range(2)
        ]
        lines = list(simulator.ledger.lines())

    if wire == "openai":
        assert [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages] == [0, 1920]
        assert {2001} == {usage["prompt_tokens"] for usage in usages}
    else:
        assert [usage["cache_creation_input_tokens"] for usage in usages] == [1920, 0]
        assert [usage["cache_read_input_tokens"] for usage in usages] == [0, 1920]
        assert {81} == {usage["input_tokens"] for usage in usages}
    assert [line.cached_tokens for line in lines] == [0, 1920]
    assert {2001} == {line.input_tokens for line in lines}


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("openai/v1/chat/completions", b"{", "invalid request"),
        ("openai/v1/chat/completions", b'{"model":"m","messages":[],"x":1}', "unknown field: x"),
        ("openai/v1/chat/completions", b'{"model":"m","messages":[]}', "messages is empty"),
        ("anthropic/v1/messages", b'{"model":"m","messages":[]}', "max_tokens"),
        ("gemini/v1beta/models/m:generateContent", b'{"contents":[]}', "contents"),
        ("gemini/v1beta/models/m:streamGenerateContent", b'{"contents":[]}', "alt=sse"),
        ("gemini/v1beta/models/m:countTokens", b"{}", "countTokens"),
        (
            "openai/v1/chat/completions",
            b'{"model":"m","messages":[{"role":"user"}],"tools":[{"type":"function","function":"x"}]}',
            "wrong shape",
        ),
        (
            "ollama/api/chat",
            b'{"model":"m","messages":[{"role":"user"}],"format":{"type":"array","minItems":[]}}',
            "JSON schema",
        ),
        ("ollama/api/chat", b'{"model":"m","messages":[]}', "messages is empty"),
        ("ollama/api/chat", b'{"model":"m","format":"xml","messages":[{"role":"user"}]}', "format"),
    ],
)
async def test_a_request_the_provider_would_refuse_is_refused(
    simulator: Simulator, http: aiohttp.ClientSession, path: str, body: bytes, told: str
) -> None:
    """With its error body, and a ledger line."""
    reply = await http.post(
        f"{simulator.url}/a/{path}", data=body, headers={"anthropic-version": "2023-06-01"}
    )

    assert reply.status == 400
    error = orjson.loads(await reply.read())["error"]
    assert told in (error if isinstance(error, str) else error["message"])
    assert [(line.ended, line.status, line.input_tokens) for line in simulator.ledger.lines()] == [
        ("error", 400, 0)
    ]


async def test_a_missing_anthropic_version_is_refused(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    """The header is required there."""
    reply = await http.post(f"{simulator.url}/a/anthropic/v1/messages", json=_body(max_tokens=5))

    assert reply.status == 400
    assert "anthropic-version" in (await reply.json())["error"]["message"]


async def test_another_process_can_direct_it_and_read_its_ledger(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    """Script, ledger, totals and clearing over HTTP."""
    sim = f"{simulator.url}/_sim"
    ordered = {"instance": "a", "http": 503, "label": "first", "times": 2}
    queued = await http.post(f"{sim}/script", json=ordered)
    first = await http.post(simulator.url + OPENAI, json=_body())
    left = await (await http.get(f"{sim}/script")).json()
    await http.delete(f"{sim}/script")
    second = await http.post(simulator.url + OPENAI, json=_body())

    assert (queued.status, first.status, second.status) == (201, 503, 200)
    assert left == {"script": [{"instance": "a", "http": 503, "label": "first"}]}
    lines = await (await http.get(f"{sim}/ledger", params={"label": "first"})).json()
    assert (lines["count"], lines["lines"][0]["status"]) == (1, 503)
    totals = await (await http.get(f"{sim}/totals")).json()
    assert (totals["totals"]["calls"], totals["by_instance"]["a"]["completed"]) == (2, 1)
    await http.delete(f"{sim}/ledger")
    assert (await (await http.get(f"{sim}/ledger")).json())["count"] == 0
    assert (await (await http.get(f"{sim}/health")).json())["simulated"] is True


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "script", b'{"explode": 1}'),
        ("POST", "script", b"nonsense"),
        ("GET", "ledger?instanse=a", b""),
        ("GET", "totals?status=many", b""),
    ],
)
async def test_a_wrong_order_is_refused(
    simulator: Simulator, http: aiohttp.ClientSession, method: str, path: str, body: bytes
) -> None:
    """So that a typo never passes for an empty ledger."""
    reply = await http.request(method, f"{simulator.url}/_sim/{path}", data=body)

    assert reply.status == 400
    assert (await reply.json())["error"]


async def test_the_journal_outlives_the_simulator(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A line a call, appended as it ends."""
    path = tmp_path / "ledger.jsonl"
    async with Simulator(SimulatorSettings(ledger_path=path)) as simulator:
        for _ in range(3):
            await (await http.post(simulator.url + OPENAI, json=_stream())).read()
        await simulator.ledger.until(lambda ledger: ledger.totals().completed == 3)

    lines = [orjson.loads(raw) for raw in path.read_bytes().splitlines()]
    assert [line["ended"] for line in lines] == ["complete"] * 3


async def test_a_taken_port_is_named(simulator: Simulator) -> None:
    """With what to do."""
    port = int(simulator.url.rpartition(":")[2])

    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}.*choose another port"):
        await serve(SimulatorSettings(), port=port)


async def test_serving_ends_when_cancelled() -> None:
    """And frees the port."""
    serving = asyncio.ensure_future(serve(SimulatorSettings(), port=0))
    await asyncio.wait([serving], timeout=0.05)
    serving.cancel()

    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_ledger_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Before anything is served."""
    settings = SimulatorSettings(ledger_path=tmp_path / "no such folder" / "ledger.jsonl")

    with pytest.raises(ConfigurationError, match=r"no such folder.*give another file"):
        Simulator(settings)
