"""Reads replies of the anthropic wire: a message, or the events that build one up.

A stream is complete with `message_stop`; nothing else ends it well.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson

from millrace.providers.failures import from_document
from millrace.providers.protocol import ProviderEvent, UsageSoFar
from millrace.providers.wires.anthropic_usage import anthropic_usage, merge_usage
from millrace.providers.wires.frames import EventFrames
from millrace.providers.wires.openai_usage import proxied_cost
from millrace.providers.wires.wire import Reply, ReplyLimits
from millrace.schemas.errors import ReplyInvalidError
from millrace.schemas.vocabulary import FinishReason

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
# Blocks about work that the server did by itself; they are no part of the answer.
_PASSED_OVER = frozenset(
    {
        "redacted_thinking",
        "server_tool_use",
        "mcp_tool_use",
        "container_upload",
        "compaction",
        "fallback",
    }
)


class AnthropicReply(Reply):
    """The state of one reply."""

    __slots__ = ("_proxy_cost", "_raw_usage", "_tool_inputs")

    def __init__(self, *, limits: ReplyLimits, proxy_cost: str | None = None) -> None:
        super().__init__(frames=EventFrames(max_bytes=limits.max_frame_bytes), limits=limits)
        self._proxy_cost = proxy_cost
        self._raw_usage: dict[str, Any] = {}
        # By block: the input that came whole at its start, until a delta brings it anew.
        self._tool_inputs: dict[int, dict[str, Any] | None] = {}

    def _read(self, document: Any) -> Iterator[ProviderEvent]:
        if "type" not in document and "error" in document:
            # How a LiteLLM proxy passes on that its upstream broke off.
            raise from_document(document)
        match document["type"]:
            case "content_block_delta":
                yield from self._read_delta(document["index"], document["delta"])
            case "content_block_start":
                yield from self._start_block(document["index"], document["content_block"])
            case "content_block_stop":
                yield from self._stop_block(document["index"])
            case "message_start":
                yield from self._start_message(document["message"])
            case "message_delta":
                self._stop_reason(document["delta"].get("stop_reason"))
                yield from self._count(document.get("usage"))
            case "message_stop":
                self.ended = True
            case "message":
                yield from self._start_message(document)
                self._complete = True
            case "error":
                raise from_document(document)
            case _:
                # `ping`, and, as the API's versioning policy has it, event types to come.
                pass

    def _reported_cost(self) -> Decimal | None:
        return proxied_cost(self._proxy_cost)

    def _read_delta(self, index: int, delta: dict[str, Any]) -> Iterator[ProviderEvent]:
        match delta["type"]:
            case "text_delta":
                if text := delta["text"]:
                    yield self._add_text(text)
            case "thinking_delta":
                if text := delta["thinking"]:
                    yield self._add_reasoning(text)
            case "input_json_delta":
                # Blocks of tools that the server runs itself have such deltas too.
                if index in self._tool_inputs and (piece := delta["partial_json"]):
                    self._tool_inputs[index] = None
                    yield from self._tools.add(index, arguments=piece)
            case _:
                # Signatures, citations, and deltas of blocks that were passed over.
                pass

    def _start_message(self, message: dict[str, Any]) -> Iterator[ProviderEvent]:
        self._model = message.get("model") or None
        self._response_id = message.get("id") or None
        yield from self._count(message.get("usage"))
        for index, block in enumerate(message.get("content") or ()):
            yield from self._start_block(index, block)
            yield from self._stop_block(index)
        self._stop_reason(message.get("stop_reason"))

    def _start_block(self, index: int, block: dict[str, Any]) -> Iterator[ProviderEvent]:
        match block["type"]:
            case "text":
                if text := block["text"]:
                    yield self._add_text(text)
            case "thinking":
                if text := block["thinking"]:
                    yield self._add_reasoning(text)
            case "tool_use":
                self._tool_inputs[index] = block.get("input") or None
                yield from self._tools.add(index, call_id=block["id"], name=block["name"])
            case kind if kind in _PASSED_OVER or kind.endswith("_tool_result"):
                pass
            case _:
                raise ReplyInvalidError("the reply holds a block of a type that is not known")

    def _stop_block(self, index: int) -> Iterator[ProviderEvent]:
        whole = self._tool_inputs.pop(index, None)
        if whole is not None:
            yield from self._tools.add(index, arguments=orjson.dumps(whole).decode())

    def _stop_reason(self, reason: str | None) -> None:
        if reason:
            self._finish = _FINISH.get(reason, "other")

    def _count(self, told: dict[str, Any] | None) -> Iterator[ProviderEvent]:
        if told:
            self._raw_usage = merge_usage(self._raw_usage, told)
            self._usage = anthropic_usage(self._raw_usage)
            if self._usage is not None:
                yield UsageSoFar(self._usage)
