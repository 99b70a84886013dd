"""Reads replies of the openai wire: `chat.completion` and streams of its chunks.

A stream is complete with `[DONE]`, or, as several vendors send none, when it ends after a
finish reason.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from math import exp
from typing import Any

import orjson

from millrace.providers.failures import from_document
from millrace.providers.protocol import ProviderEvent, UsageSoFar
from millrace.providers.wires.documents import MISSHAPEN
from millrace.providers.wires.frames import EventFrames
from millrace.providers.wires.openai_usage import openai_cost, openai_usage, proxied_cost
from millrace.providers.wires.wire import Reply, ReplyLimits
from millrace.schemas.errors import ProviderUnavailableError, ReplyInvalidError
from millrace.schemas.vocabulary import FinishReason

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}
_LEAST = -100.0
"""The logarithm taken for the most improbable token."""

# The server gave up: DeepSeek, vLLM, OpenRouter.
_BROKEN_OFF = frozenset({"insufficient_system_resource", "abort", "error", "cancelled"})


class OpenAiReply(Reply):
    """The state of one reply."""

    end_mark = b"[DONE]"

    __slots__ = ("_log_probability", "_proxy_cost", "_raw_usage", "_told_tokens")

    def __init__(self, *, limits: ReplyLimits, proxy_cost: str | None) -> None:
        super().__init__(frames=EventFrames(max_bytes=limits.max_frame_bytes), limits=limits)
        self._proxy_cost = proxy_cost
        self._raw_usage: dict[str, Any] | None = None
        self._log_probability = 0.0
        self._told_tokens = 0

    def _read(self, document: Any) -> Iterator[ProviderEvent]:
        choices = document.get("choices")
        if document.get("error") or ("choices" not in document and _is_bare_error(document)):
            raise from_document(document)
        if choices:
            if self._model is None:
                self._model = document.get("model") or None
                self._response_id = document.get("id") or None
            for choice in choices:
                # Others exist only where someone asked for several; nobody here does.
                if not choice.get("index"):
                    yield from self._read_choice(choice)
        if self._frames.whole:
            if not choices:
                raise ReplyInvalidError("the reply has no choices")
            self._complete = True
        usage = document.get("usage")
        if usage is None and "x_groq" in document:
            usage = (document["x_groq"] or {}).get("usage")
        if usage and usage != self._raw_usage:
            yield from self._count(usage)

    def _plain_text(self, document: Any) -> str | None:
        try:
            (choice,) = document["choices"]
            delta = choice["delta"]
            text = delta["content"]
            if (
                type(text) is not str
                or not text
                or len(delta) != 1
                or choice.get("finish_reason")
                or choice.get("index")
                or choice.get("logprobs")
                or document.get("usage")
                or document.get("error")
                or "x_groq" in document
                or self._model is None
                or self._frames.whole
            ):
                return None
        except MISSHAPEN:
            return None
        self._text.append(text)
        return text

    def _count(self, usage: dict[str, Any]) -> Iterator[ProviderEvent]:
        self._raw_usage = usage
        self._usage = openai_usage(usage)
        if self._usage is not None:
            yield UsageSoFar(self._usage)

    def _read_choice(self, choice: dict[str, Any]) -> Iterator[ProviderEvent]:
        # Perplexity sends the message so far beside each delta.
        delta = choice.get("delta")
        if delta is None:
            delta = choice.get("message")
        if delta:
            content = delta.get("content")
            if content:
                if type(content) is str:
                    yield self._add_text(content)
                else:
                    yield from self._read_parts(content)
            if len(delta) > 1 or not content:
                yield from self._read_beside_content(delta)
        told = choice.get("logprobs")
        if told:
            self._weigh(told.get("content") or ())
        finish = choice.get("finish_reason")
        if finish:
            self._end(finish)

    def _read_beside_content(self, delta: dict[str, Any]) -> Iterator[ProviderEvent]:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning:
            yield self._add_reasoning(reasoning)
        if delta.get("tool_calls"):
            yield from self._read_tool_calls(delta["tool_calls"])
        elif (function := delta.get("function_call")) and function.get("name"):
            yield from self._read_tool_calls([{"function": function}])
        if delta.get("refusal"):
            self._refusal.append(delta["refusal"])

    def _weigh(self, tokens: Iterable[dict[str, Any]]) -> None:
        for token in tokens:
            # Servers say -9999 or -Infinity (null in JSON) for what is next to impossible.
            said = token.get("logprob")
            self._log_probability += _LEAST if said is None else max(_LEAST, min(0.0, said))
            self._told_tokens += 1

    def _token_probability(self) -> float | None:
        told = self._told_tokens
        return round(exp(self._log_probability / told), 6) if told else None

    def _end(self, finish: str) -> None:
        if finish in _BROKEN_OFF:
            raise ProviderUnavailableError(
                f"the provider broke the reply off (finish reason {finish!r})",
                code="stream_truncated",
            )
        self._complete = True
        self._finish = _FINISH.get(finish, "other")
        if self._refusal and self._finish == "stop":
            # The model itself declined; the vendor calls that a normal stop.
            self._finish = "content_filter"

    def _read_parts(self, parts: list[dict[str, Any]]) -> Iterator[ProviderEvent]:
        """Mistral's magistral models: an array of thinking and text."""
        for part in parts:
            match part.get("type"):
                case "text" if part.get("text"):
                    yield self._add_text(part["text"])
                case "thinking":
                    inner = part.get("thinking") or []
                    thought = inner if type(inner) is str else "".join(p["text"] for p in inner)
                    if thought:
                        yield self._add_reasoning(thought)
                case "text" | "reference":
                    pass
                case _:
                    raise ReplyInvalidError("the reply's content holds a part that is not text")

    def _read_tool_calls(self, pieces: list[dict[str, Any]]) -> Iterator[ProviderEvent]:
        for piece in pieces:
            function = piece.get("function") or {}
            call_id, name = piece.get("id") or None, function.get("name") or None
            key: object = piece.get("index")
            if key is None:
                # Mistral numbers no calls: a name begins another one.
                key = self._tools.next_key() if name else self._tools.last_key()
            elif call_id and name and key in self._tools and self._tools.id_of(key) != call_id:
                # Gemini's compatible API numbers every call 0.
                self._tools.start_over(key)
            arguments = function.get("arguments") or ""
            if type(arguments) is not str:
                arguments = orjson.dumps(arguments).decode()
            yield from self._tools.add(key, call_id=call_id, name=name, arguments=arguments)

    def _reported_cost(self) -> Decimal | None:
        cost = openai_cost(self._raw_usage) if self._raw_usage else None
        return proxied_cost(self._proxy_cost) if cost is None else cost


def _is_bare_error(document: dict[str, Any]) -> bool:
    return document.get("object") == "error" or "detail" in document or "message" in document
