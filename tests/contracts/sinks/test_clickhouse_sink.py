"""What the ClickHouse sink does beyond the contract of all sinks."""

import asyncio
import subprocess
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from millrace.schemas.errors import ConfigurationError, SinkUnavailableError
from millrace.sinks.clickhouse import ClickHouseSink
from millrace.sinks.connection import connect
from millrace.sinks.migrate import Migration, migrate, shipped_migrations
from millrace.sinks.protocol import RowsRejectedError
from millrace.sinks.settings import ClickHouseSettings
from millrace.sinks.tables import ATTEMPTS, TABLES


async def test_tables_have_the_columns_that_rows_are_written_to(open_clickhouse: Any) -> None:
    """The migrations and the writer agree on names and types of columns."""
    store = await open_clickhouse()

    for table in TABLES:
        rows = await store.select(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase() "
            "AND table = {table:String}",
            table=table.name,
        )
        types = {row["name"]: row["type"] for row in rows}
        assert types == dict(zip(table.columns, table.types, strict=True))


async def test_tables_are_sorted_by_the_key_of_their_rows(open_clickhouse: Any) -> None:
    """Rows merge by exactly the columns that say which row it is."""
    store = await open_clickhouse()

    rows = await store.select(
        "SELECT name, sorting_key, engine_full FROM system.tables "
        "WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
    )

    found = {row["name"]: row["sorting_key"] for row in rows}
    assert {table.name: ", ".join(table.key) for table in TABLES}.items() <= found.items()


async def test_migrating_again_applies_nothing(open_clickhouse: Any) -> None:
    """A second process finds everything done."""
    store = await open_clickhouse()
    client = connect(store.settings)

    applied = migrate(
        client, database=store.settings.database_name, migrations=shipped_migrations()
    )

    client.close()
    assert applied == ()


async def test_every_migration_may_be_applied_twice(open_clickhouse: Any) -> None:
    """Two processes that start together may both apply one, so each must be repeatable."""
    store = await open_clickhouse()
    name = store.settings.database_name
    client = connect(store.settings)
    client.database = name
    client.command("TRUNCATE TABLE schema_migrations")

    applied = migrate(client, database=name, migrations=shipped_migrations())

    client.close()
    assert applied == shipped_migrations()


async def test_processes_that_start_together_all_open(open_clickhouse: Any) -> None:
    """Nobody loses the race for the first migration."""
    stores = await asyncio.gather(*(open_clickhouse() for _ in range(3)))

    [row] = await stores[0].select(
        "SELECT count(DISTINCT number) AS n, max(number) AS last FROM schema_migrations"
    )
    assert row == {"n": len(shipped_migrations()), "last": shipped_migrations()[-1].number}


async def test_a_changed_migration_is_an_error_that_names_it(open_clickhouse: Any) -> None:
    """A published migration that was edited stops the start."""
    store = await open_clickhouse()
    first, *rest = shipped_migrations()
    edited = Migration(first.number, first.name, first.sql + "\nSELECT 1;")
    client = connect(store.settings)

    with pytest.raises(ConfigurationError, match="0001_tables"):
        migrate(client, database=store.settings.database_name, migrations=(edited, *rest))

    client.close()


async def test_retention_follows_the_setting(open_clickhouse: Any) -> None:
    """Tables get, change and lose their TTL; an unchanged one is left alone."""

    async def expressions(days: int | None) -> dict[str, bool]:
        store = await open_clickhouse(ttl_days=days)
        rows = await store.select(
            "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()"
        )
        return {row["name"]: "toIntervalDay(" in row["engine_full"] for row in rows}

    names = {table.name for table in TABLES}

    assert {name for name, has in (await expressions(None)).items() if has} == set()
    assert {name for name, has in (await expressions(30)).items() if has} == names
    assert {name for name, has in (await expressions(30)).items() if has} == names
    assert {name for name, has in (await expressions(7)).items() if has} == names
    assert {name for name, has in (await expressions(None)).items() if has} == set()


async def test_a_row_that_no_column_can_hold_is_found_among_many(
    open_clickhouse: Any, make: Any
) -> None:
    """Halving the batch finds the bad rows; the good ones get in."""
    store = await open_clickhouse()
    batch = [make.usage(f"r{n}") for n in range(200)]
    batch[0] = make.usage("bad0", usage={"input_tokens": 1 << 70})
    batch[123] = make.usage("bad1", member=1 << 40)

    with pytest.raises(RowsRejectedError) as caught:
        await store.sink.write(batch)

    assert [row.position for row in caught.value.rejected] == [0, 123]
    assert len(await store.rows(ATTEMPTS)) == 198


async def test_many_bad_rows_in_a_row_do_not_stop_the_sink(open_clickhouse: Any, make: Any) -> None:
    """However many records are bad: as long as they are at fault, they are named and no more."""
    store = await open_clickhouse()
    batch = [make.usage(f"bad{n}", usage={"input_tokens": 1 << 70}) for n in range(50)]

    with pytest.raises(RowsRejectedError) as caught:
        await store.sink.write([*batch, make.usage("good")])

    assert len(caught.value.rejected) == 50
    assert len(await store.rows(ATTEMPTS)) == 1


async def test_a_table_that_takes_no_row_at_all_is_no_fault_of_the_rows(
    open_clickhouse: Any, make: Any
) -> None:
    """A wrong table keeps the batch with the caller instead of losing every row."""
    store = await open_clickhouse()
    client = connect(store.settings)
    client.database = store.settings.database_name
    client.command("ALTER TABLE attempts ADD CONSTRAINT none CHECK member = 99")
    client.close()

    with pytest.raises(SinkUnavailableError, match="'attempts' took none of 32"):
        await store.sink.write([make.usage(f"r{n}") for n in range(100)])


async def test_a_missing_table_keeps_the_batch(open_clickhouse: Any, make: Any) -> None:
    """Somebody dropped a table: no row is lost for that."""
    store = await open_clickhouse()
    client = connect(store.settings)
    client.database = store.settings.database_name
    client.command("DROP TABLE attempts SYNC")
    client.close()

    with pytest.raises(SinkUnavailableError, match="attempts"):
        await store.sink.write([make.usage()])


async def test_an_insert_whose_answer_is_lost_is_booked_once(
    bridge: Any, make: Any, http_clickhouse: Any
) -> None:
    """The server commits and the connection breaks: repeating the batch changes no sum."""
    store = await http_clickhouse()
    client = connect(store.settings)
    # Rows that have been merged would hide what the view does about those that have not.
    client.command(f"SYSTEM STOP MERGES `{store.settings.database_name}`.attempts")
    client.close()
    batch = [make.usage(f"r{n}") for n in range(20)]
    bridge.fault("lose_answers", 3)

    with pytest.raises(SinkUnavailableError) as caught:
        await store.sink.write(batch)
    stored = await store.rows(ATTEMPTS)
    await store.sink.write(batch)
    await store.sink.write(batch)

    [row] = await store.select(
        "SELECT sum(attempts) AS n, sum(v.cost_usd) AS usd FROM cost_by_day AS v"
    )
    assert caught.value.retry_after
    assert len(stored) == 20
    assert row == {"n": 20, "usd": "10"}


async def test_a_busy_server_asks_to_come_back_later(
    bridge: Any, make: Any, http_clickhouse: Any
) -> None:
    """Too many parts is back-pressure, not a fault of the rows."""
    store = await http_clickhouse()
    bridge.fault("busy", 1)

    with pytest.raises(SinkUnavailableError, match="TOO_MANY_PARTS") as caught:
        await store.sink.write([make.usage()])
    await store.sink.write([make.usage()])

    assert caught.value.retry_after == 5
    assert len(await store.rows(ATTEMPTS)) == 1


async def test_a_refused_password_names_the_place_and_not_the_password(bridge: Any) -> None:
    """The operator must change a setting; the message shows no secret."""
    settings = ClickHouseSettings(url=f"http://millrace:wrong-4711@127.0.0.1:{bridge.port}")
    sink = ClickHouseSink(settings=settings)

    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1") as caught:
        await sink.open()

    await sink.aclose()
    assert "4711" not in f"{caught.value} {settings!r} {caught.value.__cause__}"


async def test_nobody_listening_is_unavailable() -> None:
    """A server that is not there may come: the caller tries again."""
    settings = ClickHouseSettings(url="http://millrace:secret-4711@127.0.0.1:9")
    sink = ClickHouseSink(settings=settings)

    with pytest.raises(SinkUnavailableError, match=r"127\.0\.0\.1:9") as caught:
        await sink.open()

    await sink.aclose()
    assert caught.value.retry_after
    assert "4711" not in str(caught.value)


async def test_a_second_path_in_one_process_is_refused(
    embedded_clickhouse: Any, tmp_path: Path
) -> None:
    """There is one embedded engine a process; the message says what to do."""
    await embedded_clickhouse()
    other = ClickHouseSink(settings=ClickHouseSettings(url=f"chdb://{tmp_path}/other"))

    with pytest.raises(ConfigurationError, match="another path"):
        await other.open()

    await other.aclose()


async def test_a_path_that_another_process_has_open_is_unavailable(
    embedded_clickhouse: Any,
) -> None:
    """The second process is told that the first has the path."""
    store = await embedded_clickhouse()
    script = f"""
import asyncio
from millrace.sinks.clickhouse import ClickHouseSink
from millrace.sinks.settings import ClickHouseSettings
from millrace.schemas.errors import SinkUnavailableError
sink = ClickHouseSink(settings=ClickHouseSettings(url={store.settings.url.get_secret_value()!r}))
try:
    asyncio.run(sink.open())
except SinkUnavailableError as error:
    print(error)
"""

    second = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert "another process has it open" in second.stdout


async def test_a_batch_over_many_months_is_stored(open_clickhouse: Any, make: Any) -> None:
    """More partitions than a server takes in one insert are brought in several."""
    store = await open_clickhouse()
    months = [make.now - timedelta(days=31 * n) for n in range(150)]

    await store.sink.write([make.usage(f"r{n}", started_at=at) for n, at in enumerate(months)])

    assert len(await store.rows(ATTEMPTS)) == 150


async def test_tls_is_spoken_where_the_url_says_https(bridge: Any, make: Any) -> None:
    """On whatever port, and with a certificate of the operator's own authority."""
    url = bridge.url.replace("http:", "https:").replace(str(bridge.port), str(bridge.tls_port))
    sink = ClickHouseSink(
        settings=ClickHouseSettings(url=url, database="over_tls", ca_file=bridge.ca_file)
    )
    careless = ClickHouseSink(
        settings=ClickHouseSettings(url=url, database="over_tls", verify_tls=False)
    )

    with warnings.catch_warnings():
        # That is what urllib3 thinks of it, and rightly.
        warnings.filterwarnings("ignore", message="Unverified HTTPS request")
        for each in (sink, careless):
            await each.open()
            await each.write([make.usage()])
            await each.aclose()


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(bridge: Any) -> None:
    """Without the authority's certificate there is no connection."""
    url = bridge.url.replace("http:", "https:").replace(str(bridge.port), str(bridge.tls_port))
    sink = ClickHouseSink(settings=ClickHouseSettings(url=url))

    with pytest.raises(SinkUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        await sink.open()

    await sink.aclose()
