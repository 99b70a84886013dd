"""Reads replies of the gemini wire: one `GenerateContentResponse`, or a stream of them.

There is no end mark: a stream is complete when it ends after a finish reason.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from millrace.providers.failures import from_document
from millrace.providers.protocol import ProviderEvent, UsageSoFar
from millrace.providers.wires.frames import EventFrames
from millrace.providers.wires.wire import Reply, ReplyLimits, count
from millrace.schemas.errors import ReplyInvalidError, RequestRefusedError
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import FinishReason

_FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}
# Parts about work that the server did by itself; they are no part of the answer.
_PASSED_OVER = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")


class GeminiReply(Reply):
    """The state of one reply."""

    __slots__ = ("_raw_usage",)

    def __init__(self, *, limits: ReplyLimits) -> None:
        super().__init__(frames=EventFrames(max_bytes=limits.max_frame_bytes), limits=limits)
        self._raw_usage: dict[str, Any] | None = None

    def _read(self, document: Any) -> Iterator[ProviderEvent]:
        if isinstance(document, list):
            for one in document:
                yield from self._read(one)
            return
        if "error" in document:
            raise from_document(document)
        if self._model is None:
            self._model = document.get("modelVersion") or None
            self._response_id = document.get("responseId") or None
        usage = document.get("usageMetadata")
        if usage and usage != self._raw_usage:
            self._raw_usage = usage
            self._usage = gemini_usage(usage)
            if self._usage is not None:
                yield UsageSoFar(self._usage)
        candidates = document.get("candidates")
        if candidates:
            yield from self._read_candidate(candidates[0])
        elif blocked := (document.get("promptFeedback") or {}).get("blockReason"):
            raise RequestRefusedError(
                f"the provider blocked the prompt ({_safe(blocked)})", code="content_filtered"
            )
        elif self._frames.whole and usage is None:
            raise ReplyInvalidError("the reply has no candidates")

    def _read_candidate(self, candidate: dict[str, Any]) -> Iterator[ProviderEvent]:
        for part in (candidate.get("content") or {}).get("parts") or ():
            yield from self._read_part(part)
        finish = candidate.get("finishReason")
        if finish:
            self._finish = _FINISH.get(finish, "other")
            self._complete = True

    def _read_part(self, part: dict[str, Any]) -> Iterator[ProviderEvent]:
        text = part.get("text")
        if text is not None:
            if not text:
                return
            if part.get("thought"):
                yield self._add_reasoning(text)
            else:
                yield self._add_text(text)
        elif "functionCall" in part:
            call = part["functionCall"]
            yield from self._tools.add(
                self._tools.next_key(),
                call_id=call.get("id") or None,
                name=call["name"],
                arguments=orjson.dumps(call.get("args") or {}).decode(),
                signature=part.get("thoughtSignature") or None,
            )
        elif part.keys() - {"thought", "thoughtSignature"} and not any(
            name in part for name in _PASSED_OVER
        ):
            raise ReplyInvalidError("the reply holds a part that is not text")


def gemini_usage(raw: dict[str, Any]) -> Usage | None:
    """Bring a `usageMetadata` into our convention; None when it counts nothing.

    `promptTokenCount` holds cached ones but not what tools brought in; thoughts stand beside
    the candidates. The vendor's total is the sum of all four.
    """
    prompt = count(raw.get("promptTokenCount"))
    if prompt is None:
        return None
    thoughts = count(raw.get("thoughtsTokenCount")) or 0
    return Usage(
        input_tokens=prompt + (count(raw.get("toolUsePromptTokenCount")) or 0),
        cached_tokens=count(raw.get("cachedContentTokenCount")) or 0,
        output_tokens=(count(raw.get("candidatesTokenCount")) or 0) + thoughts,
        reasoning_tokens=thoughts,
    )


def _safe(reason: Any) -> str:
    word = str(reason)
    return word if word.replace("_", "").isalpha() and word.isupper() else "no reason given"
