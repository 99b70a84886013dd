"""The pieces of an answer, in order and once each, whatever the topic repeats."""

from dataclasses import dataclass

from millrace.schemas.chunk import Chunk, ToolCallDelta
from millrace.schemas.errors import StreamGapError
from millrace.schemas.record import Frozen
from millrace.schemas.vocabulary import ChunkEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What a member of the answer has said since its last piece."""

    member: int
    delta: str
    reasoning: str
    tool_calls: tuple[ToolCallDelta, ...]
    provider: str
    model: str
    starts_over: bool
    """True when what this member said before is void: another attempt begins here."""
    end: ChunkEnd | None
    """Set on an attempt's last piece; after `restarted` another one follows."""
    mark: "Mark"
    """Where it stands in the stream."""


class Mark(Frozen):
    """The last piece seen of a member."""

    member: int
    attempt: int
    invocation: str
    sequence: int


class Position(Frozen):
    """How far an answer has been read: keep its JSON, to go on from there in another process."""

    marks: tuple[Mark, ...] = ()


class Sequencer:
    """Puts the chunks of one request in order: each once, none missing, none of a void attempt.

    Kafka keeps the order within an attempt. What has to be told apart: records read again after
    a rewind, an attempt that was made again after a crash (another invocation, from 0 on), and
    the last words of one that was thought dead.
    """

    def __init__(self, after: Position | None = None) -> None:
        self._marks = {mark.member: mark for mark in (after.marks if after else ())}
        self._void: set[str] = set()

    def take(self, chunk: Chunk) -> Piece | None:
        """The piece that the chunk adds; None when it adds none.

        Raises:
            StreamGapError: Chunks before this one are missing.
        """
        mark = self._marks.get(chunk.member)
        same = mark is not None and mark.invocation == chunk.invocation
        if chunk.invocation in self._void or (mark is not None and chunk.attempt < mark.attempt):
            return None
        expected = mark.sequence + 1 if mark is not None and same else 0
        if chunk.sequence < expected:
            return None
        if chunk.sequence > expected:
            raise StreamGapError(
                f"request {chunk.request_id!r}: member {chunk.member} goes on at chunk "
                f"{chunk.sequence}, and {expected} was expected: the topic has not kept those "
                "between; the terminal record has the whole answer"
            )
        if mark is not None and not same:
            self._void.add(mark.invocation)
        here = Mark(
            member=chunk.member,
            attempt=chunk.attempt,
            invocation=chunk.invocation,
            sequence=chunk.sequence,
        )
        self._marks[chunk.member] = here
        return Piece(
            member=chunk.member,
            delta=chunk.delta,
            reasoning=chunk.reasoning,
            tool_calls=chunk.tool_calls,
            provider=chunk.provider,
            model=chunk.model,
            starts_over=mark is not None and not same,
            end=chunk.end,
            mark=here,
        )
