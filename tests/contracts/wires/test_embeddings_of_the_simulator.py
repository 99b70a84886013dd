"""Embeddings of the simulator, as the pipeline's own adapters and a bare client see them."""

import base64
import math
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest

from millrace.providers.entry import ProviderEntry, Timeouts
from millrace.providers.protocol import EmbeddingRequest, ModelServer
from millrace.providers.registry import build_provider
from millrace.providers.simulator.behaviour import ScriptedBehaviour
from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import SimulatorSettings
from millrace.schemas.errors import ProviderError

TEXTS = (
    "How do consumer groups rebalance?",
    "How do consumer groups rebalance partitions?",
    "A recipe for plum cake",
    "How do consumer groups rebalance?",
)
EVERY_WIRE = pytest.mark.parametrize("wire", ["openai", "gemini", "ollama"])


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A simulator as it comes."""
    async with Simulator(SimulatorSettings()) as running:
        yield running


@pytest.fixture
def seconds() -> float:
    """For how long an answer is waited for; a busy machine takes its time."""
    return 30.0


@pytest.fixture
async def embedder(simulator: Simulator, wire: str, seconds: float) -> AsyncIterator[ModelServer]:
    """The adapter for a wire, pointed at the simulator."""
    entry = ProviderEntry.model_validate(
        {
            "wire": wire,
            "base_url": simulator.base_url("vectors", wire),
            "timeouts": Timeouts(first_token=seconds, idle=seconds),
        }
    )
    provider = build_provider("vectors", entry, environ={})
    yield provider
    await provider.aclose()


def _request(*texts: str, **fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest(model="sim-embed", inputs=texts or TEXTS, **fields)


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@EVERY_WIRE
async def test_equal_texts_have_equal_vectors_and_similar_ones_near(
    embedder: ModelServer, wire: str
) -> None:
    """All of length 1."""
    reply = await embedder.embed(_request())
    first, similar, other, same = reply.vectors

    assert first == same
    assert _cosine(first, similar) > 0.7
    assert _cosine(first, other) < 0.4
    assert [round(math.hypot(*vector), 9) for vector in reply.vectors] == [1.0] * len(TEXTS)


@EVERY_WIRE
async def test_the_ledger_has_the_tokens_that_the_reply_reports(
    simulator: Simulator, embedder: ModelServer, wire: str
) -> None:
    """One line for the batch, with nothing generated."""
    reply = await embedder.embed(_request())

    (line,) = simulator.ledger.lines()
    assert (line.wire, line.model, line.ended, line.generated_tokens) == (
        wire,
        "sim-embed",
        "complete",
        0,
    )
    assert (reply.usage.source, reply.usage.input_tokens) == ("reported", line.input_tokens)


@EVERY_WIRE
async def test_the_length_of_the_vectors_can_be_chosen(embedder: ModelServer, wire: str) -> None:
    """By request."""
    reply = await embedder.embed(_request("a", "b", dimensions=32))

    assert [len(vector) for vector in reply.vectors] == [32, 32]


@EVERY_WIRE
@pytest.mark.parametrize(
    ("ordered", "code", "seconds"),
    [
        ({"http": 429}, "rate_limited", 30.0),
        ({"http": 503}, "provider_unavailable", 30.0),
        ({"hang": True}, "provider_timeout", 0.3),
        ({"cut": 1}, "stream_truncated", 30.0),
        ({"cut_cleanly": 1}, "reply_invalid", 30.0),
    ],
)
async def test_misbehaviour_is_an_error_and_never_a_short_batch(
    *,
    simulator: Simulator,
    embedder: ModelServer,
    wire: str,
    ordered: dict[str, Any],
    code: str,
    seconds: float,
) -> None:
    """As for calls."""
    simulator.script(ScriptedBehaviour(**ordered))

    with pytest.raises(ProviderError) as failed:
        await embedder.embed(_request())

    assert failed.value.code == code


@EVERY_WIRE
async def test_usage_that_is_left_out_is_estimated(
    simulator: Simulator, embedder: ModelServer, wire: str
) -> None:
    """And marked."""
    simulator.script(ScriptedBehaviour(no_usage=True))

    reply = await embedder.embed(_request())

    assert reply.usage.source == "estimated"
    assert reply.usage.input_tokens > 0


async def test_a_bare_client_may_ask_for_base64(simulator: Simulator) -> None:
    """OpenAI's own libraries do, unless told otherwise."""
    url = f"{simulator.base_url('vectors', 'openai')}/embeddings"
    body = {"model": "m", "input": "hello", "encoding_format": "base64"}
    async with aiohttp.ClientSession() as http:
        async with http.post(url, json=body) as response:
            packed = (await response.json())["data"][0]["embedding"]
        async with http.post(url, json={**body, "encoding_format": "float"}) as response:
            plain = (await response.json())["data"][0]["embedding"]

    read = struct.unpack(f"<{len(plain)}f", base64.b64decode(packed))
    assert read == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("openai/v1/embeddings", {"model": "m", "input": []}),
        ("openai/v1/embeddings", {"model": "m", "input": ["x"] * 2049}),
        ("openai/v1/embeddings", {"model": "m", "input": "x", "wrong": 1}),
        (
            "gemini/v1beta/models/m:batchEmbedContents",
            {"requests": [{"model": "models/other", "content": {"parts": [{"text": "x"}]}}]},
        ),
        ("ollama/api/embed", {"model": "m", "input": ["x", ""]}),
    ],
)
async def test_the_simulator_refuses_what_the_provider_would(
    simulator: Simulator, path: str, body: dict[str, Any]
) -> None:
    """With status 400."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{simulator.url}/vectors/{path}", json=body) as response,
    ):
        assert response.status == 400
