"""Replies of model servers, broken in every way that a seed thinks of."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_STRING = re.compile(rb'"[^"\\]*"')
_VALUES = (b"null", b"[]", b"{}", b"true", b'"x"', b"-1", b"1e999", b"NaN", b"99999999999999999999")
_GARBAGE = (
    b"\x00",
    b"\xff\xfe",
    b"data: \n\n",
    b"data: {\n\n",
    b"data: []\n\n",
    b"event: \xf0\x28\n",
    b"{}\n",
    b": keep-alive\n\n",
    b"retry: x\n\n",
    b"\r\r\n\n",
    b'{"error":',
    b"<html>502</html>",
)


@dataclass(frozen=True)
class BrokenReply:
    """What a server sends."""

    body: bytes
    cut_at: int | None
    """Where the reply was cut off, if that is all that is wrong with it."""


def break_reply(whole: bytes, draw: random.Random) -> BrokenReply:
    """Break a good reply once, or several times over."""
    if draw.random() < 0.25:
        at = draw.randrange(len(whole))
        return BrokenReply(whole[:at], at)
    body = whole
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        body = draw.choice(_WAYS)(body, draw)
    return BrokenReply(body, None)


def _flip(body: bytes, draw: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(draw.randint(1, 8)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _insert(body: bytes, draw: random.Random) -> bytes:
    at = draw.randint(0, len(body))
    return body[:at] + draw.choice(_GARBAGE) + body[at:]


def _lines(body: bytes, draw: random.Random) -> bytes:
    """Drop, double or swap lines."""
    lines = body.splitlines(keepends=True)
    if len(lines) < 2:
        return body
    at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(3):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case _:
            lines[at], lines[other] = lines[other], lines[at]
    return b"".join(lines)


def _value(body: bytes, draw: random.Random) -> bytes:
    """Put a value of another kind in the place of a number or a text."""
    found = list(draw.choice((_NUMBER, _STRING)).finditer(body))
    if not found:
        return body
    match = draw.choice(found)
    return body[: match.start()] + draw.choice(_VALUES) + body[match.end() :]


def _drop_span(body: bytes, draw: random.Random) -> bytes:
    start = draw.randint(0, len(body))
    return body[:start] + body[start + draw.randint(1, 200) :]


def _repeat(body: bytes, _: random.Random) -> bytes:
    """A second reply behind the first one."""
    return body + body


_WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _insert,
    _lines,
    _value,
    _drop_span,
    _repeat,
)
