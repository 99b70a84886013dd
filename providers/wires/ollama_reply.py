"""Reads replies of the ollama wire: JSON lines, or one such line for a plain reply.

A reply is complete with `"done": true`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from millrace.providers.failures import from_document
from millrace.providers.protocol import ProviderEvent, UsageSoFar
from millrace.providers.wires.frames import LineFrames
from millrace.providers.wires.wire import Reply, ReplyLimits, count
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import FinishReason

_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
_NANOSECONDS_PER_MS = 1e6


class OllamaReply(Reply):
    """The state of one reply."""

    __slots__ = ("_estimate_input", "_load_ns")

    def __init__(self, *, limits: ReplyLimits, estimate_input: Callable[[], int]) -> None:
        super().__init__(frames=LineFrames(max_bytes=limits.max_frame_bytes), limits=limits)
        self._estimate_input = estimate_input
        self._load_ns: int | None = None

    def _read(self, document: Any) -> Iterator[ProviderEvent]:
        if "error" in document:
            raise from_document(document)
        message = document.get("message")
        if message:
            thinking = message.get("thinking")
            if thinking:
                yield self._add_reasoning(thinking)
            content = message.get("content")
            if content:
                yield self._add_text(content)
            for call in message.get("tool_calls") or ():
                function = call["function"]
                yield from self._tools.add(
                    self._tools.next_key(),
                    call_id=call.get("id") or None,
                    name=function["name"],
                    arguments=orjson.dumps(function.get("arguments") or {}).decode(),
                )
        if document.get("done"):
            yield from self._finish_with(document)

    def _finish_with(self, document: dict[str, Any]) -> Iterator[ProviderEvent]:
        self._model = document.get("model") or None
        self._load_ns = count(document.get("load_duration"))
        reason = document.get("done_reason")
        if reason:
            self._finish = _FINISH.get(reason, "other")
        self._usage = self._count(document)
        if self._usage is not None:
            yield UsageSoFar(self._usage)
        self.ended = True

    def _count(self, document: dict[str, Any]) -> Usage | None:
        prompt, answer = count(document.get("prompt_eval_count")), count(document.get("eval_count"))
        if answer is None:
            return None
        if prompt is None:
            # The server leaves it out when its cache held the whole prompt.
            return Usage(
                input_tokens=self._estimate_input(), output_tokens=answer, source="estimated"
            )
        return Usage(input_tokens=prompt, output_tokens=answer)

    def _load_ms(self) -> float | None:
        return None if self._load_ns is None else self._load_ns / _NANOSECONDS_PER_MS
