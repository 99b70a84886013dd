"""Embeddings in the gemini wire.

Source: the Gemini API reference (embeddings, batchEmbedContents); the limit of 100 is what its
servers refuse more with.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from millrace.providers.protocol import EmbeddingRequest
from millrace.providers.wires.content import drop_unset
from millrace.providers.wires.documents import EncodedRequest, count
from millrace.providers.wires.embeddings import Embedded, EmbeddingWire


class GeminiEmbeddings(EmbeddingWire):
    """Translates to and from `batchEmbedContents`."""

    name = "gemini"
    max_inputs = 100

    def __init__(self, *, prefix: str) -> None:
        self._prefix = prefix

    def _encode(self, request: EmbeddingRequest) -> EncodedRequest:
        resource = request.model if "/" in request.model else f"models/{request.model}"
        body = {
            "requests": [
                drop_unset(
                    {
                        "model": resource,
                        "content": {"parts": [{"text": text}]},
                        "outputDimensionality": request.dimensions,
                    }
                )
                for text in request.inputs
            ]
        }
        path = f"{self._prefix}/{quote(resource, safe='/')}:batchEmbedContents"
        return EncodedRequest(path, orjson.dumps(body))

    def _read(self, document: Any, headers: Mapping[str, str]) -> Embedded:  # noqa: ARG002 - the base class's signature
        usage = document.get("usageMetadata") or {}
        return Embedded(
            vectors=[item["values"] for item in document["embeddings"]],
            input_tokens=count(usage.get("promptTokenCount")),
        )
