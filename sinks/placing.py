"""Where each record of a batch goes: its table, its row, and its place in the batch."""

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.schemas.errors import RowRejectedError
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.response import Response
from millrace.sinks.protocol import ReceivedRequest, RejectedRow, SinkRecord
from millrace.sinks.rows import Row, attempt_row, dead_letter_row, request_row, response_row
from millrace.sinks.tables import ATTEMPTS, DEAD_LETTERS, REQUESTS, RESPONSES, TABLES, Table


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row, and which record of the batch it came from."""

    table: Table
    position: int
    row_id: str
    row: Row


@dataclass(frozen=True, slots=True)
class PlacedBatch:
    """A batch by tables, and what cannot even be made a row."""

    rows: dict[str, list[PlacedRow]]
    rejected: list[RejectedRow]


def place(batch: Sequence[SinkRecord], *, store_text: bool) -> PlacedBatch:
    """Turn each record into the row of its table."""
    rows: dict[str, list[PlacedRow]] = {table.name: [] for table in TABLES}
    rejected: list[RejectedRow] = []
    for position, record in enumerate(batch):
        try:
            table, row_id, row = _row(record, store_text=store_text)
        except RowRejectedError as error:
            rejected.append(RejectedRow(position, _row_id(record), error.message))
        except ValueError as error:
            # Its text may quote the record.
            reason = f"cannot be written: {type(error).__name__}"
            rejected.append(RejectedRow(position, _row_id(record), reason))
        else:
            rows[table.name].append(PlacedRow(table, position, row_id, row))
    return PlacedBatch(rows, rejected)


def _row(record: SinkRecord, *, store_text: bool) -> tuple[Table, str, Row]:
    if isinstance(record, UsageEvent):
        return ATTEMPTS, record.row_id, attempt_row(record)
    if isinstance(record, Response):
        return RESPONSES, record.request_id, response_row(record, store_text=store_text)
    if isinstance(record, ReceivedRequest):
        return REQUESTS, record.request_id, request_row(record, store_text=store_text)
    return DEAD_LETTERS, _row_id(record), dead_letter_row(record, store_text=store_text)


def _row_id(record: SinkRecord) -> str:
    if isinstance(record, UsageEvent):
        return record.row_id
    if isinstance(record, Response | ReceivedRequest):
        return record.request_id
    return f"{record.topic}/{record.partition}/{record.offset}"
