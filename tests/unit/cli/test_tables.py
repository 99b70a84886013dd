"""Tables on screens of any width."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from millrace.streams.cli.tables import print_rows

COLUMNS = ("Provider", "Model", "Input tokens", "Cost unknown")
RIGHT = frozenset({"Input tokens", "Cost unknown"})
ROWS = (
    ("anthropic", "claude-sonnet-4-5", "1,728,123", "0"),
    ("openai", "0199a8f2-4e0c-7cc1-a3fd-5a8a7b8d6b11", "12", "3"),
)


def printed(width: int, *, terminal: bool = True, rows: tuple[tuple[str, ...], ...] = ROWS) -> str:
    """What stands on a screen of so many columns."""
    file = io.StringIO()
    screen = Console(
        file=file, width=width, force_terminal=terminal, no_color=True, highlight=False
    )
    print_rows(screen, COLUMNS, rows, title="By model", right=RIGHT)
    return "\n".join(line.rstrip() for line in _plain(file.getvalue()).splitlines())


def _plain(text: str) -> str:
    for code in ("\x1b[1m", "\x1b[3m", "\x1b[1;3m", "\x1b[0m"):
        text = text.replace(code, "")
    return text


def test_a_table_that_fits_is_one_line_a_row() -> None:
    """Headings as they are."""
    lines = printed(100).splitlines()

    assert lines[0] == "By model"
    assert lines[1].split("  ")[-1] == "Cost unknown"
    assert len(lines) == 4


def test_with_less_room_texts_and_headings_are_folded_and_numbers_are_not() -> None:
    """Half a number would be another one."""
    shown = printed(48)

    assert "1,728,123" in shown
    assert "unknown" in shown
    assert "0199a8f2-4e0c-7cc1-a3fd-5a8a7b8d6b11" not in shown


def test_where_there_is_no_room_each_row_is_a_record() -> None:
    """A heading and its value on each line."""
    assert printed(34).splitlines()[:4] == [
        "By model",
        "Provider      anthropic",
        "Model         claude-sonnet-4-5",
        "Input tokens  1,728,123",
    ]


def test_into_a_pipe_ids_go_whole() -> None:
    """Whoever looks for one finds it."""
    assert ROWS[1][1] in printed(40, terminal=False)


@pytest.mark.parametrize("terminal", [True, False])
@given(width=st.integers(20, 120), number=st.integers(0, 10**9))
@settings(max_examples=40, deadline=None)
def test_no_number_is_ever_folded(terminal: bool, width: int, number: int) -> None:
    """On whatever screen."""
    rows = (("p", "m", f"{number:,}", "0"),)

    assert f"{number:,}" in printed(width, terminal=terminal, rows=rows)
