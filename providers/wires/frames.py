"""The JSON payloads of a reply body, whether it streams or comes whole.

The body's first byte decides, not the content type: gateways answer a request for a stream
with plain JSON, and label plain JSON as an event stream.
"""

from typing import Protocol

from millrace.providers.wires.lines import LineDecoder, SseDecoder, too_long

_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"


class Frames(Protocol):
    """Cuts a body into JSON payloads."""

    whole: bool
    """True when the body is one JSON document rather than a stream of them."""

    def feed(self, piece: bytes) -> list[bytes]:
        """Give the payloads that this piece completes."""
        ...

    def close(self) -> list[bytes]:
        """Give what the end of the body completes; it may be cut."""
        ...


class EventFrames:
    """Payloads of server-sent events, or one JSON document after any blank lines."""

    __slots__ = ("_decoder", "_document", "_document_bytes", "_max_bytes", "_sniffed", "whole")

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._decoder = SseDecoder(max_bytes=max_bytes)
        self._document: list[bytes] = []
        self._document_bytes = 0
        self._sniffed = False
        self.whole = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Give the payloads that this piece completes.

        Raises:
            ReplyInvalidError: A payload is longer than allowed.
        """
        if not self._sniffed:
            piece = piece.lstrip(_BLANK + _BOM)
            if not piece:
                return []
            self._sniffed = True
            self.whole = piece[0] in b"{["
        if not self.whole:
            return self._decoder.feed(piece)
        self._document_bytes += len(piece)
        if self._document_bytes > self._max_bytes:
            raise too_long(self._max_bytes)
        self._document.append(piece)
        return []

    def close(self) -> list[bytes]:
        """Give the whole document, or the last event where its blank line is missing."""
        return [b"".join(self._document)] if self.whole else self._decoder.close()


class LineFrames:
    """Payloads of newline-delimited JSON; a plain reply is the same with one line."""

    __slots__ = ("_decoder", "whole")

    def __init__(self, *, max_bytes: int) -> None:
        self._decoder = LineDecoder(max_bytes=max_bytes)
        self.whole = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Give the lines that this piece completes, blank ones left out.

        Raises:
            ReplyInvalidError: A line is longer than allowed.
        """
        return [line for line in self._decoder.feed(piece) if line and not line.isspace()]

    def close(self) -> list[bytes]:
        """Give the last line where its end is missing."""
        line = self._decoder.close()
        return [line] if line and not line.isspace() else []
