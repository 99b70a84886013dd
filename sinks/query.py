"""Read-only SQL: what people and dashboards ask of the tables and views."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from clickhouse_connect.driver.client import Client

from millrace.schemas.errors import SinkError
from millrace.sinks.connection import Connection
from millrace.sinks.lexer import Statement, statements
from millrace.sinks.settings import ClickHouseSettings
from millrace.sinks.translation import FOREIGN, opening_failed, query_failed

DEFAULT_ROWS = 10_000

_READS = frozenset({"select", "with", "show", "describe", "desc", "explain", "exists"})
# What the engine's own read-only mode lets through: writing a file (the embedded engine is its own
# client), and reading any file of this machine.
_OUTWARD_WORDS = frozenset({"outfile"})
_OUTWARD_EMBEDDED = frozenset({"file"})
_FORMAT = "JSONCompact"


@dataclass(frozen=True, slots=True)
class ResultSet:
    """The answer to a query, safe to write as JSON.

    Values are numbers, texts, booleans, lists, objects or None. Decimals are texts, exact; times
    are texts in the time zone of their column, ours in UTC; what is no number (NaN) is None.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    """ClickHouse's names of them."""
    rows: list[list[Any]]
    truncated: bool
    """Whether there were more rows than asked for."""


class ClickHouseReader:
    """Answers queries, and refuses whatever would change something.

    The engine refuses writes (`readonly = 1`), and every query is also read by us: one statement,
    of a kind that reads, that neither writes a file nor, embedded, reads one. Has a connection of
    its own, also beside a sink on the same embedded engine in the same process.
    """

    def __init__(
        self,
        *,
        settings: ClickHouseSettings,
        max_rows: int = DEFAULT_ROWS,
        max_seconds: int = 30,
        max_memory_bytes: int = 256 << 20,
    ) -> None:
        self._settings = settings
        self._max_rows = max_rows
        self._limits: Mapping[str, int | str] = {
            "max_result_rows": max_rows + 1,
            "result_overflow_mode": "break",
            "max_execution_time": max_seconds,
            "max_memory_usage": max_memory_bytes,
            "output_format_json_quote_decimals": 1,
            "output_format_json_quote_64bit_integers": 0,
            "output_format_json_quote_denormals": 0,
            # The last one: nothing can be set after it.
            "readonly": 1,
        }
        self._connection = Connection(settings=settings)

    async def open(self) -> None:
        """Connect. Harmless to repeat.

        Raises:
            SinkUnavailableError: Nobody answers, or another process has the path open.
            ConfigurationError: User or password are refused.
        """
        await self._connection.open(self._prepare)

    async def query(
        self,
        sql: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> ResultSet:
        """Answer one statement with at most `limit` rows (and never more than `max_rows`).

        Parameters stand in the SQL as `{name:Type}`.

        Raises:
            SinkError: The statement is not one that reads, or ClickHouse finds fault with it.
            SinkUnavailableError: ClickHouse cannot answer now.
        """
        statement = readable(sql, embedded=self._settings.embedded)
        rows = self._max_rows if limit is None else min(limit, self._max_rows)
        return await self._connection.call(self._query, statement.text, parameters, rows)

    async def aclose(self) -> None:
        """Close once a query under way has ended. Harmless to repeat."""
        await self._connection.aclose()

    def _prepare(self, client: Client) -> None:
        client.database = self._settings.database_name
        for name, value in self._limits.items():
            client.set_client_setting(name, value)
        try:
            client.command("SELECT 1")
        except FOREIGN as error:
            raise opening_failed(error, location=self._settings.location) from error

    def _query(
        self, client: Client, sql: str, parameters: Mapping[str, Any] | None, limit: int
    ) -> ResultSet:
        try:
            raw = client.raw_query(sql, parameters=dict(parameters or {}), fmt=_FORMAT)
        except FOREIGN as error:
            raise query_failed(error, location=self._settings.location) from error
        if not raw:
            return ResultSet((), (), [], truncated=False)
        answer = orjson.loads(raw)
        meta, rows = answer["meta"], answer["data"]
        return ResultSet(
            columns=tuple(column["name"] for column in meta),
            types=tuple(column["type"] for column in meta),
            rows=rows[:limit],
            truncated=len(rows) > limit,
        )


def readable(sql: str, *, embedded: bool) -> Statement:
    """Check that the text is one statement that only reads, and return it without a final `;`.

    Raises:
        SinkError: It is none, or several, or could do more than read.
    """
    found = statements(sql)
    if len(found) != 1:
        raise _refused(f"give exactly one statement; found {len(found)}")
    statement = found[0]
    first = next((token for token in statement.tokens if token.text != "("), None)
    if first is None or first.text.lower() not in _READS:
        begun = "nothing" if first is None else repr(first.text)
        raise _refused(f"only SELECT, WITH, SHOW, DESCRIBE, EXPLAIN and EXISTS; found {begun}")
    for token in statement.tokens:
        if token.kind == "word" and token.text.lower() in _OUTWARD_WORDS:
            raise _refused("INTO OUTFILE writes a file; redirect the output instead")
        if embedded and token.kind in ("word", "quoted"):
            name = token.text.strip('"`')
            if "\\" in name or name.lower() in _OUTWARD_EMBEDDED:
                raise _refused(
                    f"{token.text} could read this machine's files; give it another name"
                )
    return statement


def _refused(reason: str) -> SinkError:
    return SinkError(f"the query is refused: {reason}", code="invalid_request")
