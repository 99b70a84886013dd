"""Embeddings over each wire, both ways."""

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.entry import ModelEntry
from millrace.providers.protocol import EmbeddingReply, EmbeddingRequest
from millrace.providers.wires.embeddings import EmbeddingWire
from millrace.providers.wires.gemini_embeddings import GeminiEmbeddings
from millrace.providers.wires.ollama_embeddings import OllamaEmbeddings
from millrace.providers.wires.openai_embeddings import OpenAiEmbeddings
from millrace.providers.wires.wire import ReplyLimits
from millrace.schemas.errors import (
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    ReplyInvalidError,
    RequestRefusedError,
)
from millrace.schemas.usage import Usage

TEXTS = ("one", "two", "three")
VECTORS = ((1.0, 0.0), (0.0, 1.0), (0.6, 0.8))


def _request(*texts: str, dimensions: int | None = None) -> EmbeddingRequest:
    return EmbeddingRequest(model="m", inputs=texts or TEXTS, dimensions=dimensions)


def _openai(**fields: Any) -> bytes:
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(VECTORS)
    ]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return orjson.dumps({"object": "list", "data": data, "model": "m-1", "usage": usage, **fields})


def _gemini(**fields: Any) -> bytes:
    return orjson.dumps({"embeddings": [{"values": vector} for vector in VECTORS], **fields})


def _ollama(**fields: Any) -> bytes:
    return orjson.dumps(
        {
            "model": "m-1",
            "embeddings": VECTORS,
            "load_duration": 2_500_000,
            "prompt_eval_count": 7,
            **fields,
        }
    )


async def _embed(
    server: Any,
    wire: str,
    *pieces: bytes | Exception,
    request: EmbeddingRequest | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **entry: Any,
) -> EmbeddingReply:
    server.status, server.headers, server.reply = status, headers or {}, pieces
    provider = server.provider(wire, **entry)
    try:
        reply: EmbeddingReply = await provider.embed(request or _request())
    finally:
        await provider.aclose()
    return reply


def _sent(server: Any) -> tuple[str, Any]:
    request = server.requests[-1]
    return str(request.url), orjson.loads(request.content)


async def test_the_openai_wire(server: Any) -> None:
    """Path, body, key, vectors, usage."""
    reply = await _embed(
        server,
        "openai",
        _openai(),
        request=_request(dimensions=2),
        api_key_env=("KEY",),
        environ={"KEY": "sk-1"},
    )

    assert _sent(server) == (
        "http://server/base/embeddings",
        {"model": "m", "input": list(TEXTS), "encoding_format": "float", "dimensions": 2},
    )
    assert server.requests[-1].headers["authorization"] == "Bearer sk-1"
    assert reply == EmbeddingReply(
        vectors=VECTORS, usage=Usage(input_tokens=7), model="m-1", key_alias="KEY"
    )


async def test_the_gemini_wire(server: Any) -> None:
    """One request within the batch for each text; tokens where the reply counts them."""
    reply = await _embed(
        server,
        "gemini",
        _gemini(usageMetadata={"promptTokenCount": 9}),
        request=_request("a", "b", "c", dimensions=2),
    )

    url, body = _sent(server)
    assert url == "http://server/base/v1beta/models/m:batchEmbedContents"
    assert body["requests"][1] == {
        "model": "models/m",
        "content": {"parts": [{"text": "b"}]},
        "outputDimensionality": 2,
    }
    assert (reply.vectors, reply.usage) == (VECTORS, Usage(input_tokens=9))


async def test_the_ollama_wire(server: Any) -> None:
    """Too long a text is an error rather than cut; the window and keep-alive go along."""
    reply = await _embed(
        server,
        "ollama",
        _ollama(),
        model=ModelEntry(context_window=512),
        keep_alive_seconds=-1,
    )

    assert _sent(server) == (
        "http://server/base/api/embed",
        {
            "model": "m",
            "input": list(TEXTS),
            "truncate": False,
            "keep_alive": -1,
            "options": {"num_ctx": 512},
        },
    )
    assert (reply.vectors, reply.usage, reply.load_ms) == (VECTORS, Usage(input_tokens=7), 2.5)


async def test_the_anthropic_wire_has_none(server: Any) -> None:
    """Said without asking the server."""
    provider = server.provider("anthropic")

    with pytest.raises(RequestRefusedError, match="anthropic wire has no embeddings"):
        await provider.embed(_request())

    assert server.requests == []


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        ("openai", _openai(usage=None)),
        ("openai", _openai(usage={"prompt_tokens": 0, "total_tokens": 0})),
        ("gemini", _gemini()),
        ("ollama", _ollama(prompt_eval_count=None)),
    ],
)
async def test_tokens_that_nobody_counted_are_estimated(
    server: Any, wire: str, body: bytes
) -> None:
    """And say so."""
    reply = await _embed(server, wire, body)

    assert reply.usage.source == "estimated"
    assert reply.usage.input_tokens >= len(TEXTS)


@pytest.mark.parametrize(
    ("usage", "header", "cost"),
    [
        ({"prompt_tokens": 7, "cost": 0.00002}, None, "0.00002"),
        ({"prompt_tokens": 7}, "1.5e-06", "0.0000015"),
        ({"prompt_tokens": 7}, "0.0", None),
        ({"prompt_tokens": 7}, "nonsense", None),
    ],
)
async def test_what_a_proxy_says_it_charged_is_taken(
    server: Any, usage: dict[str, Any], header: str | None, cost: str | None
) -> None:
    """OpenRouter in the body, LiteLLM in a header, whose 0 means that it does not know."""
    headers = {} if header is None else {"x-litellm-response-cost": header}

    reply = await _embed(server, "openai", _openai(usage=usage), headers=headers)

    assert reply.reported_cost_usd == (None if cost is None else Decimal(cost))


@given(order=st.permutations(range(len(TEXTS))))
def test_vectors_follow_the_inputs_whatever_their_order_in_the_reply(order: list[int]) -> None:
    """The openai wire numbers them."""
    data = [{"index": index, "embedding": VECTORS[index]} for index in order]

    reply = OpenAiEmbeddings().read(_request(), orjson.dumps({"data": data}), {})

    assert reply.vectors == VECTORS


def test_servers_that_number_no_vectors_are_taken_at_their_order() -> None:
    """Several compatible ones do not."""
    data = [{"embedding": vector} for vector in VECTORS]

    reply = OpenAiEmbeddings().read(_request(), orjson.dumps({"data": data}), {})

    assert reply.vectors == VECTORS


def _wires() -> list[EmbeddingWire]:
    return [
        OpenAiEmbeddings(),
        GeminiEmbeddings(prefix=""),
        OllamaEmbeddings(window=lambda _: None, keep_alive_seconds=None),
    ]


@pytest.mark.parametrize("wire", _wires(), ids=lambda wire: wire.name)
@given(body=st.binary(max_size=64) | st.from_regex(rb'\{"(data|embeddings)":.{0,40}\}'))
@settings(max_examples=60)
def test_whatever_a_server_sends_is_vectors_or_a_provider_error(
    wire: EmbeddingWire, body: bytes
) -> None:
    """Nothing else comes out."""
    try:
        reply = wire.read(_request(), body, {})
    except ProviderError:
        return
    assert len(reply.vectors) == len(TEXTS)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"data": [{"index": 0, "embedding": [1.0]}]}, "1 vectors for 3 inputs"),
        ({"data": [{"index": i, "embedding": []} for i in range(3)]}, r"vectors of \[0\]"),
        ({"data": [{"index": i, "embedding": [1.0] * i} for i in range(3)]}, "vectors of"),
        ({"data": [{"index": 0, "embedding": [1.0]}] * 3}, "KeyError"),
        ({"data": [{"index": i, "embedding": ["1"]} for i in range(3)]}, "TypeError"),
        ({"data": [{"index": i, "embedding": "AAAA"} for i in range(3)]}, "TypeError"),
        ({"data": [{"index": i, "embedding": [True]} for i in range(3)]}, "TypeError"),
        ({}, "KeyError"),
        ([], "AttributeError"),
    ],
)
def test_vectors_that_do_not_fit_are_no_success(body: Any, why: str) -> None:
    """A vector for each input, all of one length, made of numbers."""
    with pytest.raises(ReplyInvalidError, match=why):
        OpenAiEmbeddings().read(_request(), orjson.dumps(body), {})


def test_a_server_that_ignores_the_dimensions_is_found_out() -> None:
    """Vectors of another length would spoil whoever stores them."""
    with pytest.raises(ReplyInvalidError, match="2 numbers instead of 3"):
        OpenAiEmbeddings().read(_request(dimensions=3), _openai(), {})


@pytest.mark.parametrize(("wire", "most"), [(OpenAiEmbeddings(), 2048), (_wires()[1], 100)])
def test_a_batch_above_the_limit_is_refused_with_the_limit(wire: EmbeddingWire, most: int) -> None:
    """The limit itself is allowed."""
    wire.encode(_request(*["x"] * most))

    with pytest.raises(RequestRefusedError, match=rf"at most {most} inputs.*not {most + 1}"):
        wire.encode(_request(*["x"] * (most + 1)))


@pytest.mark.parametrize("wire", _wires(), ids=lambda wire: wire.name)
def test_nothing_and_empty_texts_are_refused(wire: EmbeddingWire) -> None:
    """The message says which one it is."""
    with pytest.raises(RequestRefusedError, match="nothing to embed"):
        wire.encode(EmbeddingRequest(model="m", inputs=()))
    with pytest.raises(RequestRefusedError, match="input 1 of 2 is empty"):
        wire.encode(_request("a", ""))


async def test_failures_are_translated_as_for_calls(server: Any) -> None:
    """By status, inside a 200, and of the connection; with the key that was used."""
    with pytest.raises(RateLimitedError) as limited:
        await _embed(
            server,
            "openai",
            b"{}",
            status=429,
            headers={"retry-after": "3"},
            api_key_env=("KEY",),
            environ={"KEY": "sk-1"},
        )
    assert (limited.value.retry_after, limited.value.key_alias) == (3.0, "KEY")
    assert limited.value.http_status == 429

    with pytest.raises(RequestRefusedError) as absent:
        await _embed(server, "ollama", b'{"error":"model \\"m\\" not found"}', status=404)
    assert absent.value.code == "model_not_found"

    too_long = b'{"error":"the input length exceeds the context length"}'
    with pytest.raises(RequestRefusedError) as long:
        await _embed(server, "ollama", too_long, status=400)
    assert long.value.code == "context_length_exceeded"

    with pytest.raises(ProviderUnavailableError):
        await _embed(server, "gemini", b'{"error":{"code":503,"status":"UNAVAILABLE"}}')

    with pytest.raises(ProviderUnavailableError) as cut:
        await _embed(server, "openai", _openai()[:20], OSError("gone"))
    assert cut.value.code == "stream_truncated"

    with pytest.raises(ReplyInvalidError, match="not JSON"):
        await _embed(server, "openai", _openai()[:-5])


async def test_a_reply_without_end_is_not_held_in_memory(server: Any) -> None:
    """The bound is that of every reply."""
    with pytest.raises(ReplyInvalidError, match="longer than the 20 bytes"):
        await _embed(server, "openai", _openai(), limits=ReplyLimits(max_reply_bytes=20))
