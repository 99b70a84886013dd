"""Storing good rows around bad ones, and what foreign errors mean."""

from collections.abc import Sequence

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, DataError, OperationalError
from hypothesis import given
from hypothesis import strategies as st

from millrace.schemas.errors import (
    ConfigurationError,
    PipelineError,
    RowRejectedError,
    SinkError,
    SinkUnavailableError,
)
from millrace.sinks.clickhouse import store_around_bad_rows
from millrace.sinks.placing import PlacedRow
from millrace.sinks.tables import ATTEMPTS
from millrace.sinks.translation import insert_failed, opening_failed, query_failed

HERE = "http://ch/books"


class Store:
    """Takes a part of rows as a whole or not at all, as ClickHouse does a block."""

    def __init__(self, bad: set[int], *, by_server: bool = False) -> None:
        self.bad = bad
        self.held: list[int] = []
        self.inserts = 0
        self.cause = DatabaseError(code=53) if by_server else ValueError()

    def insert(self, part: Sequence[PlacedRow]) -> None:
        self.inserts += 1
        if self.bad & {row.position for row in part}:
            raise RowRejectedError("no") from self.cause
        self.held += [row.position for row in part]


def rows(count: int) -> list[PlacedRow]:
    return [PlacedRow(ATTEMPTS, position, f"row {position}", ()) for position in range(count)]


@given(st.sets(st.integers(0, 99), max_size=20))
def test_good_rows_are_stored_once_in_order_and_bad_ones_named(bad: set[int]) -> None:
    """Whichever rows are bad, all others get in, each once."""
    store = Store(bad)

    rejected = store_around_bad_rows(store.insert, rows(100))

    assert [row.position for row in rejected] == sorted(bad)
    assert store.held == [n for n in range(100) if n not in bad]
    assert store.inserts <= 1 + len(bad) * 2 * 7


def test_a_good_batch_is_one_insert() -> None:
    """Nothing is divided without need."""
    store = Store(set())

    store_around_bad_rows(store.insert, rows(5_000))

    assert store.inserts == 1


def test_a_server_that_takes_none_of_many_rows_is_given_up_soon() -> None:
    """The batch stays with the caller, and the server is not asked thousands of times."""
    store = Store(set(range(5_000)), by_server=True)

    with pytest.raises(SinkUnavailableError, match="took none of 32") as caught:
        store_around_bad_rows(store.insert, rows(5_000))

    assert store.inserts < 100
    assert caught.value.retry_after


def test_many_rows_that_cannot_be_sent_are_all_named() -> None:
    """What fails before the server saw it is the row's own fault, however many they are."""
    store = Store(set(range(40)))

    assert len(store_around_bad_rows(store.insert, rows(40))) == 40


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DatabaseError("Code: 53", code=53), RowRejectedError),
        (DatabaseError("Code: 407", code=407), RowRejectedError),
        (DatabaseError("Too many partitions for single INSERT block", code=252), RowRejectedError),
        (DatabaseError("Too many parts", code=252), SinkUnavailableError),
        (DatabaseError("no such table", code=60), SinkUnavailableError),
        (DatabaseError("not allowed", code=497), SinkUnavailableError),
        (DatabaseError("memory", code=241), SinkUnavailableError),
        (DatabaseError("something new", code=99_999), SinkUnavailableError),
        (OperationalError("connection broke"), SinkUnavailableError),
        (ConnectionResetError("gone"), SinkUnavailableError),
        (RuntimeError("engine"), SinkUnavailableError),
        (DataError("Failed to write column 'cost_usd'"), RowRejectedError),
        (OverflowError("int too big to convert"), RowRejectedError),
        (UnicodeEncodeError("utf-8", "canary\ud800", 6, 7, "surrogates"), RowRejectedError),
        (TypeError("an integer is required"), RowRejectedError),
    ],
)
def test_only_errors_about_values_reject_rows(error: Exception, kind: type[SinkError]) -> None:
    """Whatever may pass, or is unknown, keeps the rows."""
    found = insert_failed(error, location=HERE)

    assert type(found) is kind
    assert "canary" not in found.message


def test_a_rejection_does_not_quote_the_value() -> None:
    """The server's message may hold a prompt; ours has the code."""
    error = DatabaseError("Cannot parse 'canary'", code=6, name="CANNOT_PARSE_TEXT")

    assert insert_failed(error, location=HERE).message == "ClickHouse error 6 CANNOT_PARSE_TEXT"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DatabaseError("no", code=516), ConfigurationError),
        (DatabaseError("no", code=497), ConfigurationError),
        (RuntimeError("EmbeddedServer already initialized with path '/a'"), ConfigurationError),
        (RuntimeError("Error initializing EmbeddedServer: ."), SinkUnavailableError),
        (OperationalError("Connection refused"), SinkUnavailableError),
    ],
)
def test_opening_says_whether_the_operator_must_act(
    error: Exception, kind: type[PipelineError]
) -> None:
    """Refused users and second paths do not pass by waiting."""
    found = opening_failed(error, location=HERE)

    assert type(found) is kind
    assert HERE in found.message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DatabaseError("Code: 62. Syntax error (version 26.1.1.1)", code=62), "Syntax error"),
        (DatabaseError("Cannot execute query in readonly mode", code=164), "only reading"),
        (DatabaseError("Timeout exceeded", code=159), "for a shorter time"),
    ],
)
def test_a_faulty_query_is_told_in_words(error: Exception, words: str) -> None:
    """The engine's own words for faults of the query, ours where they explain nothing."""
    found = query_failed(error, location=HERE)

    assert words in found.message
    assert "version" not in found.message
    assert (found.code, found.retryable) == ("invalid_request", False)


def test_a_query_that_nobody_hears_can_be_asked_again() -> None:
    """No answer is not the query's fault."""
    found = query_failed(OperationalError("Connection refused"), location=HERE)

    assert isinstance(found, SinkUnavailableError)
    assert found.retryable
