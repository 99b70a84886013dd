"""Embeddings in the openai wire.

Source: the OpenAI API reference (embeddings).
"""

from collections.abc import Mapping
from typing import Any

import orjson

from millrace.providers.protocol import EmbeddingRequest
from millrace.providers.wires.content import drop_unset
from millrace.providers.wires.documents import EncodedRequest, count
from millrace.providers.wires.embeddings import Embedded, EmbeddingWire
from millrace.providers.wires.openai_usage import openai_cost, proxied_cost


class OpenAiEmbeddings(EmbeddingWire):
    """Translates to and from `/embeddings`."""

    name = "openai"
    max_inputs = 2048

    def _encode(self, request: EmbeddingRequest) -> EncodedRequest:
        body = {
            "model": request.model,
            "input": request.inputs,
            "encoding_format": "float",
            "dimensions": request.dimensions,
        }
        return EncodedRequest("/embeddings", orjson.dumps(drop_unset(body)))

    def _read(self, document: Any, headers: Mapping[str, str]) -> Embedded:
        usage = document.get("usage") or {}
        tokens = count(usage.get("prompt_tokens"))
        if tokens is None:
            tokens = count(usage.get("total_tokens"))
        cost = openai_cost(usage)
        if cost is None:
            cost = proxied_cost(headers.get("x-litellm-response-cost"))
        return Embedded(
            vectors=[item["embedding"] for item in _in_order(document["data"])],
            # Servers that do not count say 0, which no text has.
            input_tokens=tokens or None,
            reported_cost_usd=cost,
            model=document.get("model") or None,
        )


def _in_order(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By `index`; as they come where a compatible server leaves it out of all of them."""
    if all("index" not in item for item in items):
        return items
    by_index = {item["index"]: item for item in items}
    return [by_index[index] for index in range(len(items))]
