"""What a sink promises, and what it is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from millrace.schemas.dead_letter import DeadLetter
from millrace.schemas.errors import RowRejectedError
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.request import Request
from millrace.schemas.response import Response


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A request together with what only the record that carried it tells."""

    request: Request
    request_id: str
    """The one in the body, or the one derived from where the record lies."""
    accepted_at: datetime
    """The time stamp of the record."""
    topic: str
    partition: int
    offset: int
    size_bytes: int
    """Of the record's value."""


SinkRecord = ReceivedRequest | UsageEvent | Response | DeadLetter


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A record that the store will never take, by its place in the batch that was written."""

    position: int
    row_id: str
    reason: str


class RowsRejectedError(RowRejectedError):
    """Some records of a batch cannot be stored; every other one of the batch is."""

    def __init__(self, rejected: Sequence[RejectedRow]) -> None:
        self.rejected = tuple(rejected)
        named = ", ".join(f"{row.row_id!r} ({row.reason})" for row in self.rejected[:_NAMED])
        more = f" and {len(self.rejected) - _NAMED} more" if len(self.rejected) > _NAMED else ""
        super().__init__(
            f"{len(self.rejected)} of the batch's records cannot be stored: {named}{more}; "
            "the others are stored. Set these aside, they will not be taken later either"
        )


_NAMED = 5


class Sink(Protocol):
    """A store of records.

    One writer at a time: calls do not overlap. Records may come in any order, and more than
    once: each has an id and a precedence, and of the rows with one id the store shows the one
    with the highest, whichever came last. Cancelling a call leaves the store usable; what it
    was writing may or may not be stored.
    """

    async def open(self) -> None:
        """Make ready to write. Harmless to repeat.

        Raises:
            SinkUnavailableError: The store cannot be reached now.
            ConfigurationError: A setting must be changed first.
        """
        ...

    async def write(self, batch: Sequence[SinkRecord]) -> None:
        """Store the batch; return once the store holds every record.

        After an error some records may already be stored. Repeating the call is harmless.

        Raises:
            SinkUnavailableError: The store cannot take records now. Keep the batch and write
                it again after `retry_after` seconds.
            RowsRejectedError: The store will never take the records it names; it holds all
                the others.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the store once a call under way has ended. Harmless to repeat."""
        ...
