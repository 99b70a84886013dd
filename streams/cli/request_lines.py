"""From lines of JSON to requests ready to send, with every problem named by its line."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from millrace.schemas.errors import InvalidEventError
from millrace.schemas.ids import NewId
from millrace.schemas.request import Request

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to produce. `request_id` is None where none can be read from raw bytes."""

    line: int
    value: bytes
    key: bytes | None
    request_id: str | None
    checked: bool = True
    """False for bytes that are sent as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that is no request, and why; the text names fields, never their values."""

    line: int
    problem: str


def requests_of(content: bytes) -> list[bytes]:
    """The lines, each of which is a request; all of them as one where that is a single object.

    For people write JSON over several lines.
    """
    lines = content.split(b"\n")
    try:
        whole = orjson.loads(content.removeprefix(_BOM))
    except orjson.JSONDecodeError:
        return lines
    return [content] if isinstance(whole, dict) else lines


def read_requests(lines: Iterable[bytes], *, new_id: NewId) -> Iterator[Outgoing | BadLine]:
    """Check each line that is not blank; a request without an id is given a new one."""
    for number, line in _filled(lines):
        try:
            request = Request.decode(line)
        except InvalidEventError as error:
            yield BadLine(line=number, problem=error.message)
        else:
            yield outgoing(request, line=number, new_id=new_id)


def outgoing(request: Request, *, line: int, new_id: NewId) -> Outgoing:
    """Make a request ready to send, giving it an id where it has none."""
    if request.request_id is None:
        request = request.model_copy(update={"request_id": new_id()})
    return Outgoing(
        line=line,
        value=encode(request),
        key=key_of(request).encode(),
        request_id=request.request_id,
    )


def encode(request: Request) -> bytes:
    """The request without what it leaves unsaid, as templates fill in what is unsaid only."""
    return request.model_dump_json(exclude_unset=True).encode()


def key_of(request: Request) -> str:
    """What keeps a request in order: its conversation, else itself."""
    return request.conversation_id or request.request_id or ""


def read_raw(lines: Iterable[bytes]) -> Iterator[Outgoing]:
    """Take lines as they are, for trying what the pipeline does with bad ones."""
    for number, line in _filled(lines):
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            found = None
        fields = found if isinstance(found, dict) else {}
        request_id = _text(fields.get("request_id"))
        key = _text(fields.get("conversation_id")) or request_id
        yield Outgoing(
            line=number,
            value=line,
            key=key.encode() if key else None,
            request_id=request_id,
            checked=False,
        )


def _filled(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(lines, 1):
        text = line.rstrip(b"\r\n")
        if text.strip():
            yield number, text.removeprefix(_BOM) if number == 1 else text


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
