"""How long ClickHouse keeps rows: a setting, so not part of the migrations."""

import re

from clickhouse_connect.driver.client import Client

from millrace.sinks.tables import TABLES

_TTL = re.compile(r"\bTTL toDateTime\((\w+)\) \+ toIntervalDay\((\d+)\)")
_ENGINES = (
    "SELECT name, engine_full FROM system.tables WHERE database = {database:String} "
    "AND name IN {names:Array(String)}"
)


def keep_for(client: Client, *, database: str, days: int | None) -> tuple[str, ...]:
    """Make the tables drop rows after so many days, None for never; return those altered.

    Tables that already do so are left alone, for an altered one is gone through as a whole.
    Blocks.
    """
    rows = client.query(
        _ENGINES, parameters={"database": database, "names": [table.name for table in TABLES]}
    ).result_rows
    engines: dict[str, str] = {str(row[0]): str(row[1]) for row in rows}
    altered = []
    for table in TABLES:
        match = _TTL.search(engines[table.name])
        wanted = None if days is None else (table.clock, str(days))
        if (match.groups() if match else None) == wanted:
            continue
        rule = (
            "REMOVE TTL"
            if days is None
            else f"MODIFY TTL toDateTime({table.clock}) + toIntervalDay({days})"
        )
        client.command(f"ALTER TABLE `{table.name}` {rule}")
        altered.append(table.name)
    return tuple(altered)
