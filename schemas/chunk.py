"""Tokens as they come: the public record on `llm.chunks`."""

from typing import ClassVar

from pydantic import Field

from millrace.schemas.record import Frozen, Record
from millrace.schemas.vocabulary import ChunkEnd


class ToolCallDelta(Frozen):
    """A piece of a tool call; `arguments` pieces of the same `index` are to be joined."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Chunk(Record):
    """A piece of an answer.

    `sequence` counts from 0 without gaps within one invocation of an attempt. An attempt that
    begins again after a crash carries a new `invocation` and starts at 0: what came before it
    from the same attempt is void.
    """

    schema_name: ClassVar[str] = "chunk"

    request_id: str
    member: int = 0
    attempt: int = 1
    invocation: str
    sequence: int = Field(ge=0)
    delta: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    provider: str
    model: str
    end: ChunkEnd | None = None
    """None but on the last chunk; `restarted` says that another attempt follows."""
