"""Records into ClickHouse: one insert a table and batch, safe to repeat."""

from collections.abc import Callable, Sequence

from clickhouse_connect.driver.client import Client

from millrace.schemas.errors import RowRejectedError, SinkUnavailableError
from millrace.sinks.connection import Connection
from millrace.sinks.disk_reserve import DiskReserve
from millrace.sinks.migrate import migrate, shipped_migrations
from millrace.sinks.placing import PlacedRow, place
from millrace.sinks.protocol import RejectedRow, RowsRejectedError, SinkRecord
from millrace.sinks.retention import keep_for
from millrace.sinks.settings import ClickHouseSettings
from millrace.sinks.tables import TABLES, Table
from millrace.sinks.translation import FOREIGN, insert_failed, refused_by_server

_INSERT_SETTINGS = {
    # The answer must mean that the rows are stored, not that they wait somewhere.
    "async_insert": "0",
    "wait_end_of_query": "1",
}
_WRONG_TABLE_AFTER = 32
"""So many rows refused by the server and none taken: then it is the table that does not fit."""
_WRONG_TABLE_RETRY_SECONDS = 30.0


class ClickHouseSink:
    """The ledger, the requests, the answers and the dead letters, in a server or embedded.

    Nothing depends on the server's memory of earlier inserts: a row that is written again, in
    whatever batch and order, takes its own place again.
    """

    def __init__(self, *, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._connection = Connection(settings=settings)
        self._reserve = (
            DiskReserve(settings.folder, least_bytes=settings.engine_min_free_bytes)
            if settings.embedded
            else None
        )

    async def open(self) -> None:
        """Connect, migrate the database, set how long rows are kept. Harmless to repeat.

        Raises:
            SinkUnavailableError: Nobody answers, another process has the path open, or the disk
                of the embedded engine is almost full.
            ConfigurationError: User or password are refused, or a migration was changed.
        """
        if self._reserve is not None:
            # An engine that opens begins to merge.
            self._reserve.check(None)
        await self._connection.open(self._prepare)

    async def write(self, batch: Sequence[SinkRecord]) -> None:
        """Insert the batch; return once ClickHouse holds every row.

        After an error some rows may already be stored. Repeating the call is harmless: a
        repeated row has the same key and precedence, and views count it once, merged or not.

        Raises:
            SinkUnavailableError: ClickHouse cannot take rows now. Keep the batch and write it
                again after `retry_after` seconds.
            RowsRejectedError: ClickHouse will never take the rows it names; it holds all others.
        """
        await self._connection.call(self._write, batch)

    async def aclose(self) -> None:
        """Close the connection once a write under way has ended. Harmless to repeat."""
        await self._connection.aclose()

    def _prepare(self, client: Client) -> None:
        database = self._settings.database_name
        migrate(client, database=database, migrations=shipped_migrations())
        keep_for(client, database=database, days=self._settings.ttl_days)

    def _write(self, client: Client, batch: Sequence[SinkRecord]) -> None:
        if self._reserve is not None:
            self._reserve.check(client)
        placed = place(batch, store_text=self._settings.store_text)
        rejected = placed.rejected
        for table in TABLES:
            if rows := placed.rows[table.name]:
                rejected += self._insert(client, table, rows)
        if rejected:
            raise RowsRejectedError(sorted(rejected, key=lambda row: row.position))

    def _insert(self, client: Client, table: Table, rows: Sequence[PlacedRow]) -> list[RejectedRow]:
        def insert(part: Sequence[PlacedRow]) -> None:
            try:
                client.insert(
                    table.name,
                    [row.row for row in part],
                    column_names=table.columns,
                    column_type_names=table.types,
                    settings=_INSERT_SETTINGS,
                )
            except FOREIGN as error:
                raise insert_failed(error, location=self._settings.location) from error

        return store_around_bad_rows(insert, rows)


def store_around_bad_rows(
    insert: Callable[[Sequence[PlacedRow]], None], rows: Sequence[PlacedRow]
) -> list[RejectedRow]:
    """Insert the rows, halving what is rejected until the bad rows stand alone; return those.

    Raises:
        SinkUnavailableError: The store cannot take rows now, or takes none at all of many, which
            is no fault of theirs.
    """
    rejected: list[RejectedRow] = []
    stored = refusals = 0
    parts = [rows]
    while parts:
        part = parts.pop()
        try:
            insert(part)
        except RowRejectedError as error:
            if len(part) > 1:
                middle = len(part) // 2
                parts += (part[middle:], part[:middle])
                continue
            bad = part[0]
            rejected.append(RejectedRow(bad.position, bad.row_id, error.message))
            refusals += refused_by_server(error)
            if not stored and refusals >= _WRONG_TABLE_AFTER:
                raise SinkUnavailableError(
                    f"the table {bad.table.name!r} took none of {refusals} rows "
                    f"({error.message}); compare its columns with this version's migrations",
                    retry_after=_WRONG_TABLE_RETRY_SECONDS,
                ) from error
        else:
            stored += len(part)
    return rejected
