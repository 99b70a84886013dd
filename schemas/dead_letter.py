"""What could not be processed, whole: the public record on `llm.dead-letters`."""

import base64
from typing import ClassVar, Literal, Self

from millrace.schemas.errors import ErrorInfo
from millrace.schemas.record import Frozen, Instant, Record


class Blob(Frozen):
    """Bytes in JSON, exact: as text where they are UTF-8, else as base64."""

    encoding: Literal["utf-8", "base64"]
    content: str

    @classmethod
    def of(cls, raw: bytes) -> Self:
        """Wrap bytes."""
        try:
            return cls(encoding="utf-8", content=raw.decode("utf-8"))
        except UnicodeDecodeError:
            return cls(encoding="base64", content=base64.b64encode(raw).decode("ascii"))

    def bytes(self) -> bytes:
        """The bytes that were wrapped."""
        if self.encoding == "utf-8":
            return self.content.encode("utf-8")
        return base64.b64decode(self.content)


class SourceHeader(Frozen):
    """A header of the original record."""

    name: str
    value: Blob | None
    """None for a header without value."""
    name_base64: str | None = None
    """The name's bytes, where they are no UTF-8 and `name` is only as near as it gets."""

    def name_bytes(self) -> bytes:
        """The name as it stood in the record."""
        if self.name_base64 is None:
            return self.name.encode("utf-8")
        return base64.b64decode(self.name_base64)


class DeadLetter(Record):
    """A record that was set aside: its bytes, where it lay, and what was wrong with it."""

    schema_name: ClassVar[str] = "dead-letter"

    topic: str
    partition: int
    offset: int
    timestamp: Instant | None = None
    """None where the record told no time that can be one."""
    key: Blob | None = None
    value: Blob | None = None
    """None for a tombstone."""
    headers: tuple[SourceHeader, ...] = ()
    request_id: str | None = None
    """Where one could be read."""
    error: ErrorInfo
    dead_at: Instant
