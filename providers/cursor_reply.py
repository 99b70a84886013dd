"""Reads what the Cursor CLI prints under `--output-format stream-json`: a JSON object a line.

Sources: Cursor's documentation of the CLI's output format; published recordings of its output
for what that leaves open (partial output, thinking). Kinds of events and fields that are not
known are passed over, as the documentation asks.
"""

from collections.abc import Iterator
from typing import Any

from millrace.providers.protocol import ProviderEvent, ReasoningDelta, TextDelta
from millrace.providers.wires.frames import LineFrames
from millrace.providers.wires.wire import Reply, ReplyLimits
from millrace.schemas.errors import ProviderUnavailableError


class CursorReply(Reply):
    """The state of one reply; complete with a `result` event.

    Usage is never known: the command does not count.
    """

    __slots__ = ("_partial", "_segment", "_timed")

    def __init__(self, *, limits: ReplyLimits, partial: bool) -> None:
        super().__init__(frames=LineFrames(max_bytes=limits.max_frame_bytes), limits=limits)
        self._partial = partial
        self._timed = False
        self._segment: list[str] = []
        """What has come of the present message, piece by piece."""

    @property
    def begun(self) -> bool:
        """Whether any part of an answer has come."""
        return bool(self._text or self._reasoning)

    def _read(self, document: Any) -> Iterator[ProviderEvent]:
        match document.get("type"):
            case "assistant":
                text = _text(document)
                if text:
                    yield from self._say(self._new(text, document))
            case "thinking" if document.get("text"):
                self._reasoning.append(document["text"])
                yield ReasoningDelta(document["text"])
            case "system":
                self._model = document.get("model") or None
                self._response_id = document.get("session_id") or None
            case "result":
                yield from self._end(document)

    def _new(self, text: str, event: dict[str, Any]) -> str:
        """What of a message has not been said yet.

        With partial output, a piece has a time and no call of the model; a message that has
        both, or neither, repeats as a whole what came in pieces.
        """
        if not self._partial:
            return text
        if "timestamp_ms" in event and "model_call_id" not in event:
            self._timed = True
            self._segment.append(text)
            return text
        if not self._timed:
            return text  # versions that give no time repeat nothing
        said = "".join(self._segment)
        self._segment.clear()
        if "".join(self._text).endswith(text):
            return ""
        return text.removeprefix(said) if text.startswith(said) else ""

    def _say(self, text: str) -> Iterator[ProviderEvent]:
        if text:
            self._text.append(text)
            yield TextDelta(text)

    def _end(self, event: dict[str, Any]) -> Iterator[ProviderEvent]:
        if event.get("is_error") or event.get("subtype") not in (None, "success"):
            raise ProviderUnavailableError("the Cursor CLI says that its work failed")
        whole = event.get("result")
        said = "".join(self._text)
        if isinstance(whole, str) and whole.startswith(said):
            yield from self._say(whole[len(said) :])
        self._finish = "stop"
        self.ended = True


def _text(event: dict[str, Any]) -> str:
    content = event["message"]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")
