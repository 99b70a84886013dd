"""Embeddings in the ollama wire.

Source: Ollama's API documentation (embed).
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from millrace.providers.protocol import EmbeddingRequest
from millrace.providers.wires.content import drop_unset
from millrace.providers.wires.documents import EncodedRequest, count
from millrace.providers.wires.embeddings import Embedded, EmbeddingWire

_NANOSECONDS_PER_MS = 1e6


class OllamaEmbeddings(EmbeddingWire):
    """Translates to and from `/api/embed`.

    A text longer than the model's window is refused: the server would cut it, and say nothing.
    """

    name = "ollama"
    max_inputs = None

    def __init__(
        self, *, window: Callable[[str], int | None], keep_alive_seconds: int | None
    ) -> None:
        self._window = window
        self._keep_alive = keep_alive_seconds

    def _encode(self, request: EmbeddingRequest) -> EncodedRequest:
        window = self._window(request.model)
        body = {
            "model": request.model,
            "input": request.inputs,
            "truncate": False,
            "dimensions": request.dimensions,
            "keep_alive": self._keep_alive,
            "options": None if window is None else {"num_ctx": window},
        }
        return EncodedRequest("/api/embed", orjson.dumps(drop_unset(body)))

    def _read(self, document: Any, headers: Mapping[str, str]) -> Embedded:  # noqa: ARG002 - the base class's signature
        load_ns = count(document.get("load_duration"))
        return Embedded(
            vectors=document["embeddings"],
            # Left out, or 0, when nothing had to be evaluated.
            input_tokens=count(document.get("prompt_eval_count")) or None,
            model=document.get("model") or None,
            load_ms=None if load_ns is None else load_ns / _NANOSECONDS_PER_MS,
        )
