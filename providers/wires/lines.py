"""Incremental decoding of server-sent events and of lines, from bytes cut anywhere.

Time is linear in the bytes fed, whatever the pieces; memory is bounded by the longest line
allowed. Nothing is decoded to text here: payloads go to the JSON parser as bytes, which
refuses what is not UTF-8.
"""

from millrace.schemas.errors import ReplyInvalidError

_LF = 10
_CR = 13
_BOM = b"\xef\xbb\xbf"


class LineDecoder:
    r"""Cuts bytes into lines that end in `\n`, `\r\n` or `\r`."""

    __slots__ = ("_after_cr", "_held", "_held_bytes", "_max_bytes")

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Give the lines that this piece completes, without their ends.

        Raises:
            ReplyInvalidError: A line is longer than allowed.
        """
        if self._after_cr and piece:
            # The line was given out at its CR; an LF right after it belongs to that same end.
            self._after_cr = False
            if piece[0] == _LF:
                piece = piece[1:]
        if not piece:
            return []
        lines = piece.splitlines()
        last = piece[-1]
        if last == _LF:
            rest = b""
        elif last == _CR:
            rest = b""
            self._after_cr = True
        else:
            rest = lines.pop()
        if lines and self._held:
            self._hold(lines[0])
            lines[0] = self.close()
        if rest:
            self._hold(rest)
        return lines

    @property
    def is_empty(self) -> bool:
        """Whether the next piece begins a line."""
        return not self._held and not self._after_cr

    def close(self) -> bytes:
        """Give what was fed after the last line end."""
        rest = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        return rest

    def _hold(self, part: bytes) -> None:
        self._held_bytes += len(part)
        if self._held_bytes > self._max_bytes:
            raise too_long(self._max_bytes)
        self._held.append(part)


class SseDecoder:
    """Reads the data of the events of a `text/event-stream`.

    As the standard (WHATWG HTML, server-sent events) has it: lines of data join to one, and
    comments, unknown fields and events without data are passed over. Event names too: the
    wires here repeat in the data whatever a name says.
    """

    __slots__ = ("_data", "_data_bytes", "_lines", "_max_bytes", "_started")

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lines = LineDecoder(max_bytes=max_bytes)
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._started = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Give the data of the events that this piece completes.

        Raises:
            ReplyInvalidError: A line, or the data of an event, is longer than allowed.
        """
        whole = self._whole_events(piece)
        if whole is not None:
            return whole
        return self._line_by_line(piece)

    def _line_by_line(self, piece: bytes) -> list[bytes]:
        lines = self._lines.feed(piece)
        if lines and not self._started:
            self._started = True
            lines[0] = lines[0].removeprefix(_BOM)
        complete = []
        # Nearly every event is one line of data and a blank one.
        single: bytes | None = None
        for line in lines:
            if not line:
                if single is not None:
                    complete.append(single)
                    single = None
                elif self._data:
                    complete.append(self._dispatch())
            elif (
                single is None
                and not self._data
                and line.startswith(b"data: ")
                and len(line) <= self._max_bytes
            ):
                single = line[6:]
            else:
                if single is not None:
                    self._append(single)
                    single = None
                self._take(line)
        if single is not None:
            self._append(single)
        return complete

    def _whole_events(self, piece: bytes) -> list[bytes] | None:
        """The data of a piece that is nothing but whole events of one line each, cut at once."""
        if (
            self._data
            or not self._lines.is_empty
            or not piece.startswith(b"data: ")
            or not piece.endswith(b"\n\n")
            or b"\r" in piece
            or len(piece) > self._max_bytes
        ):
            return None
        data = piece[6:-2].split(b"\n\ndata: ")
        # Two line ends an event, and none within: each was cut where it should be.
        if piece.count(b"\n") != 2 * len(data):
            return None
        self._started = True
        return data

    def close(self) -> list[bytes]:
        """Give the data of the event that the end of the stream leaves without its blank line.

        The standard drops it; several vendors end their stream so, hence it is given. It may
        be cut: whoever reads it must be ready for data that does not parse.
        """
        rest = self._lines.close()
        if not self._started:
            rest = rest.removeprefix(_BOM)
        if rest:
            self._take(rest)
        return [self._dispatch()] if self._data else []

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._append(line[5:].removeprefix(b" "))
        elif line == b"data":
            self._append(b"")

    def _append(self, value: bytes) -> None:
        self._data_bytes += len(value) + 1
        if self._data_bytes > self._max_bytes:
            raise too_long(self._max_bytes)
        self._data.append(value)

    def _dispatch(self) -> bytes:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._data_bytes = 0
        return data


def too_long(max_bytes: int) -> ReplyInvalidError:
    """The error for a reply that will not be held in memory."""
    return ReplyInvalidError(
        f"a piece of the reply is longer than the {max_bytes} bytes allowed for one"
    )
