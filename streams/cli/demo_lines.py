"""The demo's input: lines of a file, and how each is meant to end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import orjson
from pydantic import ValidationError

from millrace.schemas.ids import request_id_at
from millrace.schemas.record import canonical_json
from millrace.schemas.request import Request
from millrace.schemas.vocabulary import TerminalStatus
from millrace.streams.cli.follow import Sent
from millrace.streams.cli.request_lines import Outgoing, read_raw

EXPECT_TAG = "expect"
"""A request whose tag `expect` is a status is meant to end so, and not as `completed`."""

Meant = TerminalStatus | Literal["set_aside", "duplicate", "conflict"]
"""A terminal status; or, with no terminal record of its own: not a request at all, the same
request again, or another under the same id."""

_NO_RECORD: frozenset[Meant] = frozenset({"set_aside", "duplicate", "conflict"})
_DEAD_LETTER: frozenset[Meant] = frozenset({"rejected", "set_aside", "conflict"})
_STATUSES: frozenset[str] = frozenset(get_args(TerminalStatus))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line as it is sent."""

    outgoing: Outgoing
    meant: Meant
    request: Request | None
    """None where it is no request."""

    @property
    def ends(self) -> bool:
        """Whether it gets a terminal record of its own."""
        return self.meant not in _NO_RECORD

    @property
    def dead(self) -> bool:
        """Whether it becomes a dead letter."""
        return self.meant in _DEAD_LETTER

    @property
    def misbehaves(self) -> bool:
        """Whether it orders the simulator to do something wrong."""
        return b"[[sim:" in self.outgoing.value


@dataclass(frozen=True, slots=True, kw_only=True)
class SentLine:
    """A line where it lies."""

    line: Line
    sent: Sent

    @property
    def request_id(self) -> str:
        """Its own, where it has a usable one, else the one derived from its place."""
        sent = self.sent
        if self.line.request is not None and self.line.request.request_id is not None:
            return self.line.request.request_id
        given = self.line.outgoing.request_id
        return given or request_id_at(sent.topic, sent.partition, sent.offset)


def read_lines(content: Iterable[bytes]) -> Sequence[Line]:
    """Read lines as they are, and work out what is meant to become of each."""
    first: dict[str, bytes] = {}
    lines = []
    for outgoing in read_raw(content):
        body = _object(outgoing.value)
        request = _request(body)
        lines.append(Line(outgoing=outgoing, meant=_meant(body, request, first), request=request))
    return lines


def _object(value: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _request(body: dict[str, Any] | None) -> Request | None:
    if body is None:
        return None
    try:
        return Request.model_validate(body)
    except ValidationError:
        return None


def _meant(body: dict[str, Any] | None, request: Request | None, first: dict[str, bytes]) -> Meant:
    if body is None:
        return "set_aside"
    if request is None:
        return "rejected"
    wish = request.tags.get(EXPECT_TAG, "completed")
    meant = cast("TerminalStatus", wish) if wish in _STATUSES else "completed"
    if request.request_id is None or meant == "rejected":
        return meant
    content = canonical_json(body)
    known = first.setdefault(request.request_id, content)
    if known is content:
        return meant
    return "duplicate" if known == content else "conflict"
