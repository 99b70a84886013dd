"""What reading and writing a wire's JSON documents has in common, whatever they are about."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from millrace.schemas.errors import ReplyInvalidError

MISSHAPEN = (KeyError, TypeError, AttributeError, ValueError)
"""Vendor JSON is read as plain dicts, for speed; a shape that the wire does not have shows as one
of these, whichever field it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLimits:
    """How much of a reply is held in memory before it counts as broken."""

    max_frame_bytes: int = 16 * 2**20
    """One line or event of a stream, or a whole plain reply."""
    max_reply_bytes: int = 64 * 2**20
    """All bytes of one reply."""


class EncodedRequest(NamedTuple):
    """A request in the wire's dialect: the path below the base URL and the JSON body."""

    path: str
    body: bytes


def parse(payload: bytes) -> Any:
    """Read one JSON document.

    Raises:
        ReplyInvalidError: It is none, or not UTF-8.
    """
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise ReplyInvalidError(
            f"a piece of the reply ({len(payload)} bytes) is not JSON in UTF-8"
        ) from error


def misshapen(error: Exception) -> ReplyInvalidError:
    """The error for a document that is not what the wire has there."""
    return ReplyInvalidError(
        f"the reply does not have the shape of its wire API ({type(error).__name__})"
    )


def count(value: Any) -> int | None:
    """A token count as JSON has it, or None where it is not one."""
    if type(value) is int:
        return value if value >= 0 else None
    if value is None:
        return None
    if isinstance(value, float) and value >= 0 and value.is_integer():
        return int(value)
    return None
