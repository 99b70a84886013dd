"""`millrace report`: the ready views as tables."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from millrace.schemas.errors import ConfigurationError
from millrace.sinks.reports import REPORTS, ColumnFormat, Report
from millrace.sinks.settings import ClickHouseSettings
from millrace.streams.cli.clickhouse import Answer, ask
from millrace.streams.cli.moments import parse_moment
from millrace.streams.cli.options import AsJson, ConfigFile, read_settings
from millrace.streams.cli.output import cell, print_json, print_table, say
from millrace.streams.status import dollars

ROWS = 200
GLANCE_ROWS = 15
"""Of each report, where all of them are shown."""
DAYS = 30
_NUMBERS: frozenset[ColumnFormat] = frozenset({"count", "dollars", "milliseconds", "share"})

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Exit codes: 0 fine; 2 no such report, or wrong settings; 3 no ClickHouse.")
def report(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Which ones; all that hold anything if none."),
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From this day on, such as 7d or 2026-11-01.")
    ] = f"{DAYS}d",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=False,
            help=f"Show at most so many rows; {ROWS} of each that is named, else {GLANCE_ROWS}.",
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Say which reports there are.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Show the ready views: what was asked, how it ended, what it cost, how long it took.

    With --json, prints one document: a list of reports with their rows.

    Examples:
      millrace report
      millrace report cost-by-team latency --since 7d
      millrace report --list
      millrace report evaluations --json
    """
    if listed:
        print_table(("Report", "Shows"), [(item.name, item.title) for item in REPORTS.values()])
        return
    chosen = [_find(name) for name in names] if names else list(REPORTS.values())
    day = parse_moment(since, now=datetime.now(UTC)).date()
    asyncio.run(
        _show(
            chosen,
            settings=read_settings(config).clickhouse,
            since=day,
            limit=limit or (ROWS if names or as_json else GLANCE_ROWS),
            every=bool(names),
            as_json=as_json,
        )
    )


def _find(name: str) -> Report:
    found = REPORTS.get(name.replace("_", "-"))
    if found is None:
        raise ConfigurationError(f"there is no report {name!r}; there are {', '.join(REPORTS)}")
    return found


async def _show(
    reports: list[Report],
    *,
    settings: ClickHouseSettings,
    since: date,
    limit: int,
    every: bool,
    as_json: bool,
) -> None:
    documents = []
    empty = []
    cut = []
    for item in reports:
        answer = await ask(settings, statement(item, since=since), limit=limit)
        if answer.truncated:
            cut.append(item.name)
        if as_json:
            rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
            documents.append({"report": item.name, "title": item.title, "rows": rows})
        elif answer.rows:
            print_report(item, answer)
        elif every:
            say(f"{item.title}: nothing since {since}")
        else:
            empty.append(item.name)
    if as_json:
        print_json(documents)
    elif empty:
        say(f"Nothing since {since} in: {', '.join(empty)}")
    if cut:
        say(
            f"Only the first {limit} rows are shown of: {', '.join(cut)}; --limit shows more",
            err=True,
        )


def statement(item: Report, *, since: date) -> str:
    """The report's SQL with its one parameter filled in; a date cannot carry anything else."""
    return item.sql.replace("{since:Date}", f"toDate('{since:%Y-%m-%d}')")


def print_report(item: Report, answer: Answer) -> None:
    """Print a report as a table under its title."""
    positions = {name: index for index, name in enumerate(answer.columns)}
    print_table(
        [column.heading for column in item.columns],
        [
            [shown(row[positions[column.name]], column.format) for column in item.columns]
            for row in answer.rows
        ],
        title=item.title,
        right=frozenset(column.heading for column in item.columns if column.format in _NUMBERS),
    )
    say("")


_FORMATS: Mapping[ColumnFormat, Callable[[Any], str]] = {
    "dollars": lambda value: dollars(Decimal(str(value))),
    "count": lambda value: f"{int(value):,}",
    "milliseconds": lambda value: f"{float(value):,.0f} ms",
    "share": lambda value: f"{float(value):.0%}",
    "yes_no": lambda value: "yes" if value in (True, 1, "1", "true") else "no",
}


def shown(value: Any, form: ColumnFormat) -> str:
    """A value as its column shows it; an unknown one as a dash."""
    if value is None:
        return cell(None)
    try:
        return _FORMATS.get(form, cell)(value)
    except (ValueError, InvalidOperation):
        return cell(value)
