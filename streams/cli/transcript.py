"""Answers on a terminal, as they come."""

from collections.abc import Callable
from dataclasses import dataclass, field

from millrace.schemas.chunk import Chunk
from millrace.schemas.response import Response
from millrace.streams.cli.output import printable
from millrace.streams.status import dollars

_NUMBERS_SHOWN = 4


@dataclass(slots=True)
class _Stream:
    """What has been shown of one member's answer."""

    source: tuple[int, str]
    shown: str = ""
    waiting: str = ""
    """The beginning of a line that is not complete yet."""


@dataclass(slots=True, kw_only=True)
class Transcript:
    """Writes tokens and terminal records, whatever order their topics are read in.

    Inline, one answer is written as it comes; otherwise whole lines of many answers, each with
    its request's name before it.
    """

    write: Callable[[str], None]
    inline: bool
    _streams: dict[tuple[str, int], _Stream] = field(default_factory=dict)

    def chunk(self, chunk: Chunk) -> None:
        """Write the next piece of an answer; one that begins again is announced."""
        name = (chunk.request_id, chunk.member)
        source = (chunk.attempt, chunk.invocation)
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = _Stream(source)
        elif stream.source != source:
            if source[0] < stream.source[0]:
                return
            self._finish_line(name, stream)
            place = f"{chunk.provider}/{chunk.model}"
            self._line(name, f"— begun again, attempt {chunk.attempt} by {place}")
            stream = self._streams[name] = _Stream(source)
        self._text(name, stream, chunk.delta)

    def response(self, response: Response) -> None:
        """Write what of the answer has not been written, and how the request ended."""
        mine = [name for name in self._streams if name[0] == response.request_id]
        whole = False
        for name in mine:
            stream = self._streams.pop(name)
            if len(mine) == 1 and response.text.startswith(stream.shown):
                self._text(name, stream, response.text[len(stream.shown) :])
                whole = True
            self._finish_line(name, stream)
        text = response.text or vectors_line(response)
        if not whole and text:
            name = (response.request_id, 0)
            stream = _Stream((0, ""))
            self._text(name, stream, text)
            self._finish_line(name, stream)
        self.write(f"{ending(response)}\n")

    def _text(self, name: tuple[str, int], stream: _Stream, text: str) -> None:
        stream.shown += text
        if self.inline:
            self.write(printable(text))
            stream.waiting = (stream.waiting + text)[-1:]
            return
        *lines, stream.waiting = (stream.waiting + text).split("\n")
        for line in lines:
            self._line(name, line)

    def _finish_line(self, name: tuple[str, int], stream: _Stream) -> None:
        if self.inline:
            if stream.waiting not in ("", "\n"):
                self.write("\n")
        elif stream.waiting:
            self._line(name, stream.waiting)
        stream.waiting = ""

    def _line(self, name: tuple[str, int], text: str) -> None:
        member = f"/{name[1]}" if name[1] else ""
        prefix = "" if self.inline else f"{printable(name[0])}{member} │ "
        self.write(f"{prefix}{printable(text)}\n")


def vectors_line(response: Response) -> str:
    """How many vectors there are, and how the first begins; empty where there is none."""
    vectors = response.embeddings
    if not vectors:
        return ""
    first = ", ".join(f"{number:.4g}" for number in vectors[0][:_NUMBERS_SHOWN])
    more = ", …" if len(vectors[0]) > _NUMBERS_SHOWN else ""
    many = "vector" if len(vectors) == 1 else "vectors"
    return f"{len(vectors)} {many} of {len(vectors[0])} numbers: [{first}{more}]"


def ending(response: Response) -> str:
    """How a request ended, on one line."""
    parts = [f"{printable(response.request_id)}: {response.status}"]
    if response.provider and response.model:
        parts.append(printable(f"{response.provider}/{response.model}"))
    if response.usage:
        about = "about " if response.usage.source == "estimated" else ""
        parts.append(f"{about}{response.usage.input_tokens}+{response.usage.output_tokens} tokens")
        so_far = "" if response.cost_final else " so far"
        parts.append(f"{dollars(response.cost_usd)}{so_far}")
    if response.timing.total_ms is not None:
        parts.append(f"{response.timing.total_ms:,.0f} ms")
    if len(response.attempts) > 1:
        parts.append(f"{len(response.attempts)} attempts")
    if response.error:
        parts.append(printable(f"{response.error.code}: {response.error.message}"))
    return " · ".join(parts)
