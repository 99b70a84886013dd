"""The embeddings of the simulator's wires; errors, ids and models are those of their chats."""

import struct
from base64 import b64encode
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field

from millrace.providers.simulator.call import Incoming, SimulatedCall, Turn
from millrace.providers.simulator.gemini_wire import GeminiWire
from millrace.providers.simulator.ollama_wire import LOADED_NANOSECONDS, OllamaWire
from millrace.providers.simulator.openai_wire import OpenAIWire
from millrace.providers.simulator.reply import Reply
from millrace.providers.simulator.wire import Lenient, read_body
from millrace.schemas.errors import RequestRefusedError

_MOST_INPUTS: Final = {"openai": 2048, "gemini": 100}
_Dimensions = Annotated[int, Field(ge=1, le=4096)]


class _OpenAIBody(Lenient):
    model: str
    input: str | list[str]
    dimensions: _Dimensions | None = None
    encoding_format: Literal["float", "base64"] = "float"


class OpenAIEmbeddings(OpenAIWire):
    """`/embeddings`."""

    def read(self, incoming: Incoming) -> SimulatedCall:
        """Read a batch."""
        body = read_body(_OpenAIBody, incoming.body, known=frozenset({"user"}))
        texts = [body.input] if isinstance(body.input, str) else body.input
        return _call(
            incoming,
            body.model,
            _checked(texts, "openai"),
            dimensions=body.dimensions,
            base64_vectors=body.encoding_format == "base64",
        )

    def reply_id(self, sequence: int) -> str:
        """For the ledger only: these replies carry no id."""
        return f"embedding-sim{sequence:09d}"

    def whole(self, reply: Reply) -> bytes:
        """Write a list of `embedding` objects."""
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if reply.base64_vectors else vector,
            }
            for index, vector in enumerate(reply.vectors)
        ]
        body: dict[str, Any] = {"object": "list", "data": data, "model": reply.model}
        if reply.report_usage:
            tokens = reply.input_tokens
            body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        return orjson.dumps(body)


class _GeminiPart(Lenient):
    text: str


class _GeminiContent(Lenient):
    parts: list[_GeminiPart]


class _GeminiRequest(Lenient):
    model: str
    content: _GeminiContent
    outputDimensionality: _Dimensions | None = None  # noqa: N815 - the API's name


class _GeminiBody(Lenient):
    requests: list[_GeminiRequest]


class GeminiEmbeddings(GeminiWire):
    """`batchEmbedContents`."""

    def read(self, incoming: Incoming) -> SimulatedCall:
        """Read a batch."""
        body = read_body(_GeminiBody, incoming.body, known=frozenset())
        if any(each.model != f"models/{incoming.model}" for each in body.requests):
            raise RequestRefusedError("requests.model differs from the model of the path")
        lengths = {each.outputDimensionality for each in body.requests}
        if len(lengths) > 1:
            raise RequestRefusedError("requests.outputDimensionality differs within the batch")
        texts = ["".join(part.text for part in each.content.parts) for each in body.requests]
        return _call(
            incoming,
            incoming.model,
            _checked(texts, "gemini"),
            dimensions=next(iter(lengths)),
        )

    def whole(self, reply: Reply) -> bytes:
        """Write the values of each."""
        body: dict[str, Any] = {"embeddings": [{"values": vector} for vector in reply.vectors]}
        if reply.report_usage:
            body["usageMetadata"] = {"promptTokenCount": reply.input_tokens}
        return orjson.dumps(body)


class _OllamaBody(Lenient):
    model: str
    input: str | list[str]
    dimensions: _Dimensions | None = None


class OllamaEmbeddings(OllamaWire):
    """`/api/embed`."""

    def read(self, incoming: Incoming) -> SimulatedCall:
        """Read a batch."""
        known = frozenset({"truncate", "options", "keep_alive"})
        body = read_body(_OllamaBody, incoming.body, known=known)
        texts = [body.input] if isinstance(body.input, str) else body.input
        return _call(incoming, body.model, _checked(texts, "ollama"), dimensions=body.dimensions)

    def whole(self, reply: Reply) -> bytes:
        """Write the vectors, with counts and durations."""
        body: dict[str, Any] = {
            "model": reply.model,
            "embeddings": reply.vectors,
            "total_duration": LOADED_NANOSECONDS + round(reply.first_token_seconds * 1e9),
            "load_duration": LOADED_NANOSECONDS,
        }
        if reply.report_usage:
            body["prompt_eval_count"] = reply.input_tokens
        return orjson.dumps(body)


def _checked(texts: list[str], wire: str) -> list[str]:
    most = _MOST_INPUTS.get(wire)
    if not texts or "" in texts:
        raise RequestRefusedError("input is empty, or holds an empty text")
    if most is not None and len(texts) > most:
        raise RequestRefusedError(f"at most {most} inputs can be in one batch, not {len(texts)}")
    return texts


def _call(
    incoming: Incoming,
    model: str,
    texts: list[str],
    *,
    dimensions: int | None,
    base64_vectors: bool = False,
) -> SimulatedCall:
    return SimulatedCall(
        instance=incoming.instance,
        model=model,
        stream=False,
        turns=tuple(Turn("user", text) for text in texts),
        embeds=True,
        dimensions=dimensions,
        base64_vectors=base64_vectors,
    )


def _packed(vector: tuple[float, ...]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
