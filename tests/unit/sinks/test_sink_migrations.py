"""The migrations that are shipped, and the reports over their views."""

import re

from millrace.sinks.lexer import statements
from millrace.sinks.migrate import Migration, shipped_migrations
from millrace.sinks.query import readable
from millrace.sinks.reports import REPORTS


def test_migrations_come_in_the_order_of_their_numbers() -> None:
    """No number is there twice, as it is by numbers that a database knows what it has."""
    numbers = [migration.number for migration in shipped_migrations()]

    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))


def test_every_statement_may_be_repeated() -> None:
    """Two processes may apply the same one at the same time."""
    for migration in shipped_migrations():
        for statement in statements(migration.sql):
            words = " ".join(token.text.upper() for token in statement.tokens[:8])

            assert re.search(r"IF NOT EXISTS|OR REPLACE|IF EXISTS", words), statement.text[:80]


def test_a_checksum_does_not_depend_on_how_lines_end() -> None:
    """A checkout on Windows has the same migrations."""
    unix, windows = (Migration(1, "a", text) for text in ("SELECT 1;\n", "SELECT 1;\r\n"))

    assert unix.checksum == windows.checksum
    assert unix.checksum != Migration(1, "a", "SELECT 2;\n").checksum


def test_money_is_never_a_float() -> None:
    """No column of money is of a type that rounds."""
    text = " ".join(migration.sql for migration in shipped_migrations())

    types = re.findall(r"^    cost_usd (.*?)[ ,]COMMENT", text, re.MULTILINE)
    assert set(types) == {"Nullable(Decimal(38, 12))"}


def test_reports_are_queries_that_a_reader_takes() -> None:
    """Each has a title, a name of its own, and names its columns once."""
    for name, report in REPORTS.items():
        columns = [column.name for column in report.columns]

        assert name == report.name
        assert report.title
        assert readable(report.sql, embedded=True)
        assert len(columns) == len(set(columns))
        assert "{since:Date}" in report.sql
