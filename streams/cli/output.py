"""Printing: tables and text for people, JSON for programs."""

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 200
"""Columns of a table that goes to a pipe or file, where no terminal says how many there are."""

UNKNOWN = "-"
"""How tables show what is not known."""

_KEPT = frozenset("\n\t")


def console(*, stderr: bool = False) -> Console:
    """A console that prints no colours, and nothing live, unless it is a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        highlight=False,
        soft_wrap=False,
        width=None if stream.isatty() else PLAIN_WIDTH,
    )


def say(text: str, *, err: bool = False) -> None:
    """Print a line."""
    typer.echo(text, err=err)


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    say(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode())


def print_json_line(value: Any) -> None:
    """Print one JSON value on one line."""
    say(orjson.dumps(value, default=str).decode())


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    right: frozenset[str] = frozenset(),
) -> None:
    """Print rows under headings; `right` names the columns of numbers."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        justify = "right" if column in right else "left"
        table.add_column(Text(column), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    screen = console()
    if screen.is_terminal:
        screen.print(table)
        return
    with screen.capture() as captured:
        screen.print(table)
    say("\n".join(line.rstrip() for line in captured.get().splitlines()))


def cell(value: Any) -> str:
    """A value as a table shows it; an unknown one as a dash."""
    if value is None:
        return UNKNOWN
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, (dict, list)):
        return orjson.dumps(value, default=str).decode()
    return printable(str(value))


def printable(text: str) -> str:
    """The text without control characters, with which an answer could move the cursor."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character in _KEPT or unicodedata.category(character) not in ("Cc", "Cf")
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )
