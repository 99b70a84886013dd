"""Records into files: one JSON object a line, one file a table, in a folder."""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from millrace.schemas.errors import ConfigurationError, SinkUnavailableError
from millrace.sinks.placing import PlacedRow, place
from millrace.sinks.protocol import RejectedRow, RowsRejectedError, SinkRecord
from millrace.sinks.tables import TABLES, Table

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DISK_RETRY_SECONDS = 5.0
_PIECE_BYTES = 1 << 16


class JsonLinesSink:
    """The rows that ClickHouse would get, as lines of `<table>.jsonl`.

    Lines are only added: a repeated row is there twice. `read_rows` shows each once, as the
    views of ClickHouse do.
    """

    def __init__(self, *, folder: Path, store_text: bool = True) -> None:
        self._folder = folder
        self._store_text = store_text
        self._files: dict[str, BinaryIO] = {}

    async def open(self) -> None:
        """Make the folder and its files; cut off a last line that a crash left unfinished.

        Raises:
            ConfigurationError: The folder cannot be written to.
        """
        await asyncio.to_thread(self._open)

    async def write(self, batch: Sequence[SinkRecord]) -> None:
        """Add the batch; return once the disk holds it. Harmless to repeat.

        Raises:
            SinkUnavailableError: The disk takes nothing, or the sink is not open.
            RowsRejectedError: Some records cannot be written as JSON; all others are.
        """
        if not self._files:
            raise SinkUnavailableError(f"the files in {str(self._folder)!r} are not open")
        await asyncio.to_thread(self._write, batch)

    async def aclose(self) -> None:
        """Close the files. Harmless to repeat."""
        files, self._files = self._files, {}
        for file in files.values():
            file.close()

    def _open(self) -> None:
        if self._files:
            return
        opened: dict[str, BinaryIO] = {}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for table in TABLES:
                file: BinaryIO = _path(self._folder, table).open("ab+")
                opened[table.name] = file
                _cut_unfinished_line(file)
        except OSError as error:
            for file in opened.values():
                file.close()
            raise ConfigurationError(
                f"cannot write to the folder {str(self._folder)!r}: {error.strerror}"
            ) from error
        self._files = opened

    def _write(self, batch: Sequence[SinkRecord]) -> None:
        placed = place(batch, store_text=self._store_text)
        rejected = placed.rejected
        lines: dict[str, list[bytes]] = {}
        for name, rows in placed.rows.items():
            for row in rows:
                try:
                    lines.setdefault(name, []).append(_line(row))
                except TypeError as error:
                    reason = f"cannot be written: {type(error).__name__}"
                    rejected.append(RejectedRow(row.position, row.row_id, reason))
        try:
            for name, added in lines.items():
                file = self._files[name]
                file.writelines(added)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkUnavailableError(
                f"cannot write to the folder {str(self._folder)!r}: {error.strerror}",
                retry_after=_DISK_RETRY_SECONDS,
            ) from error
        if rejected:
            raise RowsRejectedError(sorted(rejected, key=lambda row: row.position))


def read_rows(folder: Path, table: Table) -> Iterator[Mapping[str, Any]]:
    """The rows of a table, each once: of those with one key the one with highest precedence."""
    rows: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    with _path(folder, table).open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            key = tuple(row[column] for column in table.key)
            if key not in rows or row["precedence"] >= rows[key]["precedence"]:
                rows[key] = row
    yield from rows.values()


def _path(folder: Path, table: Table) -> Path:
    return folder / f"{table.name}.jsonl"


def _line(placed_row: PlacedRow) -> bytes:
    moments = placed_row.table.moments
    values = (
        (_EPOCH + timedelta(milliseconds=value)) if at in moments and value is not None else value
        for at, value in enumerate(placed_row.row)
    )
    row = dict(zip(placed_row.table.columns, values, strict=True))
    return orjson.dumps(row, default=_plain, option=orjson.OPT_APPEND_NEWLINE)


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"no JSON for {type(value).__name__}")


def _cut_unfinished_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - _PIECE_BYTES)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    file.truncate(end)
