"""Tables for people: as wide as there is room, and record by record where there is too little."""

from collections.abc import Sequence
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

WIDEST = 400
"""A table that goes to a pipe may be so wide before its texts are folded: ids are searched for."""

_ENDLESS = 100_000
_GAP = 2
_READABLE = 12
"""Letters of a text below which it is not worth a column."""


def print_rows(
    screen: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None,
    right: frozenset[str],
) -> None:
    """Print rows under headings; `right` names the columns of numbers, which are never folded.

    Where even folded texts do not fit onto a terminal, each row is printed as lines of
    `heading  value`.
    """
    numbers = [column in right for column in columns]
    table = _table(columns, rows, numbers=numbers, title=title)
    endless = screen.options.update(max_width=_ENDLESS)
    natural = screen.measure(table, options=endless).maximum
    if natural > screen.width and not screen.is_terminal and natural <= WIDEST:
        screen.width = natural
    elif natural > screen.width and screen.is_terminal:
        least = _least_widths(columns, rows, numbers)
        if sum(least) + _GAP * (len(least) - 1) > screen.width:
            _print_records(screen, columns, rows, title=title)
            return
        # A column of numbers is as wide as its heading, which nothing else folds.
        folded = [
            "\n".join(wrap(name, width)) if number else name
            for name, width, number in zip(columns, least, numbers, strict=True)
        ]
        table = _table(folded, rows, numbers=numbers, title=title)
    screen.print(table)


def _table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Sequence[bool],
    title: str | None,
) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for heading, number in zip(headings, numbers, strict=True):
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(Text(heading), justify=justify, overflow="fold", no_wrap=number)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _least_widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool]
) -> list[int]:
    """What each column needs to be read: whole numbers, words of headings, some of each text."""
    widths = []
    for index, (column, number) in enumerate(zip(columns, numbers, strict=True)):
        longest = max((cell_len(row[index]) for row in rows), default=1)
        content = longest if number else min(longest, _READABLE)
        widths.append(max(content, *map(cell_len, column.split()), 1))
    return widths


def _print_records(
    screen: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None
) -> None:
    names = max(map(cell_len, columns))
    if title is not None:
        screen.print(Text(title, style="italic"))
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            line = Text.assemble((f"{column:<{names}}", "bold"), "  ", value)
            screen.print(line, overflow="fold")
        screen.print()
