"""Printing: tables and text for people, JSON for programs."""

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
import typer
from rich.console import Console

from millrace.streams.cli.tables import print_rows

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
    """Print rows under headings; `right` names the columns of numbers, which are never folded."""
    cells = [[cell(value) for value in row] for row in rows]
    screen = console()
    if screen.is_terminal:
        print_rows(screen, columns, cells, title=title, right=right)
        return
    with screen.capture() as captured:
        print_rows(screen, columns, cells, title=title, right=right)
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
