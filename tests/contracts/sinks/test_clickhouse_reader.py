"""Reading answers questions, and can do nothing else."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from millrace.schemas.errors import SinkError, SinkUnavailableError
from millrace.sinks.query import ClickHouseReader
from millrace.sinks.settings import ClickHouseSettings
from millrace.sinks.tables import ATTEMPTS


async def test_values_come_as_json_can_hold_them(open_clickhouse: Any) -> None:
    """Large integers and decimals are exact, times are UTC texts, no number is None."""
    store = await open_clickhouse()
    await store.reader.open()

    answer = await store.reader.query(
        "SELECT 18446744073709551615 AS a, toDecimal128('0.1', 12) AS b, nan AS c, [1, 2] AS d, "
        "map('k', 1) AS e, toDateTime64('2026-01-02 03:04:05.678', 3, 'UTC') AS f, NULL AS g, "
        "true AS h, (1, 'x') AS i -- the end"
    )

    assert answer.columns == tuple("abcdefghi")
    assert answer.types[1] == "Decimal(38, 12)"
    assert answer.rows == [
        [2**64 - 1, "0.1", None, [1, 2], {"k": 1}, "2026-01-02 03:04:05.678", None, True, [1, "x"]]
    ]
    assert json.loads(json.dumps(answer.rows)) == answer.rows


async def test_rows_beyond_the_limit_are_left_out_and_that_is_said(open_clickhouse: Any) -> None:
    """The limit of the query counts, and never more than that of the reader."""
    store = await open_clickhouse()
    await store.reader.open()
    small = ClickHouseReader(settings=store.settings, max_rows=5)
    await small.open()

    asked = await store.reader.query("SELECT number FROM numbers(10)", limit=3)
    exact = await store.reader.query("SELECT number FROM numbers(3)", limit=3)
    capped = await small.query("SELECT number FROM numbers(1000000)", limit=100)

    await small.aclose()
    assert (asked.rows, asked.truncated) == ([[0], [1], [2]], True)
    assert (exact.rows, exact.truncated) == ([[0], [1], [2]], False)
    assert (len(capped.rows), capped.truncated) == (5, True)


@pytest.mark.parametrize(
    "sql",
    ["SHOW TABLES", "DESCRIBE attempts;", "EXPLAIN SELECT 1", "(SELECT 1)", "WITH 1 AS x SELECT x"],
)
async def test_statements_that_read_are_answered(embedded_clickhouse: Any, sql: str) -> None:
    """Not only SELECT reads."""
    store = await embedded_clickhouse()
    await store.reader.open()

    assert (await store.reader.query(sql)).rows


async def test_whatever_would_write_is_refused_by_the_engine_too(
    open_clickhouse: Any, make: Any
) -> None:
    """Past our own check the engine's read-only mode stands."""
    store = await open_clickhouse()
    await store.sink.write([make.usage()])
    await store.reader.open()

    def insert(client: Any) -> None:
        client.command("INSERT INTO attempts (row_id) VALUES ('x')")

    def unlock(client: Any) -> None:
        client.command("SET readonly = 0")

    for work in (insert, unlock):
        with pytest.raises(Exception, match="READONLY"):
            await store.reader._connection.call(work)

    assert len(await store.rows(ATTEMPTS)) == 1


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE attempts",
        "INSERT INTO attempts (row_id) VALUES ('x')",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE attempts",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT file('/etc/hostname')",
        "SELECT `file`('/etc/hostname')",
        "SELECT `fi\\x6ce`('/etc/hostname')",
        "SELECT * APPLY(file) FROM (SELECT '/etc/hostname')",
        "SELECT 1 INTO OUTFILE '{outfile}'",
        "EXPLAIN SELECT 1 INTO OUTFILE '{outfile}'",
        "KILL QUERY WHERE 1",
        "SYSTEM FLUSH LOGS",
        "SET readonly = 0",
        "SELECT nonsense",
        "",
        "-- nothing",
        "SELECT 'open",
    ],
)
async def test_what_is_no_harmless_query_is_an_error(
    embedded_clickhouse: Any, sql: str, tmp_path: Path
) -> None:
    """Writing, files, settings, several statements and nonsense all end in one kind of error."""
    store = await embedded_clickhouse()
    await store.reader.open()
    outfile = tmp_path / "out.txt"

    with pytest.raises(SinkError) as caught:
        await store.reader.query(sql.replace("{outfile}", str(outfile)))

    assert caught.value.code == "invalid_request"
    assert not isinstance(caught.value, SinkUnavailableError)
    assert not outfile.exists()
    assert await store.rows(ATTEMPTS) == []


async def test_reading_and_writing_go_on_side_by_side(embedded_clickhouse: Any, make: Any) -> None:
    """A reader on the same embedded engine sees what the sink wrote, while it writes."""
    store = await embedded_clickhouse()
    await store.reader.open()

    async def write() -> None:
        for batch in range(5):
            await store.sink.write([make.usage(f"r{batch}-{n}") for n in range(100)])

    async def read() -> list[int]:
        return [len(await store.rows(ATTEMPTS)) for _ in range(5)]

    _, counts = await asyncio.gather(write(), read())

    assert counts == sorted(counts)
    assert len(await store.rows(ATTEMPTS)) == 500


async def test_a_query_that_runs_too_long_is_ended(embedded_clickhouse: Any) -> None:
    """One question cannot keep the engine for itself."""
    store = await embedded_clickhouse()
    reader = ClickHouseReader(settings=store.settings, max_seconds=1)
    await reader.open()

    with pytest.raises(SinkError, match="shorter time"):
        await reader.query("SELECT count() FROM numbers(1000000000000) WHERE number % 7 = 3")

    await reader.aclose()


async def test_a_reader_that_is_not_open_says_so() -> None:
    """Asking before `open` is an error of its own."""
    reader = ClickHouseReader(settings=ClickHouseSettings(url="chdb:///nowhere"))

    with pytest.raises(SinkUnavailableError, match="not open"):
        await reader.query("SELECT 1")
