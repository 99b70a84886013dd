"""`millrace sql`: one read-only statement against ClickHouse."""

import asyncio
import sys
from typing import Annotated

import typer

from millrace.schemas.errors import ConfigurationError
from millrace.streams.cli.clickhouse import ask
from millrace.streams.cli.options import AsJson, ConfigFile, read_settings
from millrace.streams.cli.output import print_json_line, print_table, say

ROWS = 1_000

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Exit codes: 0 answered; 2 the statement is refused or wrong; 3 no ClickHouse.")
def sql(
    *,
    query: Annotated[str, typer.Argument(metavar="QUERY|-", help="One statement; - reads stdin.")],
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many rows.")] = ROWS,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Ask ClickHouse, embedded or a server, also while the pipeline runs.

    Only statements that read are let through. With --json, prints one object a row.

    Examples:
      millrace sql "SHOW TABLES"
      millrace sql "SELECT team, sum(cost_usd) FROM spend GROUP BY team"
      millrace sql --json "SELECT * FROM responses ORDER BY completed_at DESC LIMIT 10" | jq .
    """
    if query == "-":
        query = sys.stdin.read()
    if not query.strip():
        raise ConfigurationError('no statement: give one, such as "SHOW TABLES"')
    answer = asyncio.run(ask(read_settings(config).clickhouse, query, limit=limit))
    if as_json:
        for row in answer.rows:
            print_json_line(dict(zip(answer.columns, row, strict=True)))
    elif answer.columns:
        print_table(answer.columns, answer.rows)
    if answer.truncated:
        say(f"only the first {limit} rows are shown; --limit shows more", err=True)
