"""From records to rows."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.schemas.dead_letter import Blob, DeadLetter
from millrace.schemas.errors import ErrorInfo, RowRejectedError
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.schemas.usage import Usage
from millrace.sinks.placing import place
from millrace.sinks.protocol import ReceivedRequest, SinkRecord
from millrace.sinks.rows import attempt_row, dead_letter_row, money, request_row, response_row
from millrace.sinks.tables import ATTEMPTS, DEAD_LETTERS, REQUESTS, RESPONSES, TABLES, Table

AT = datetime(2026, 3, 4, 5, 6, 7, 891_000, tzinfo=UTC)
AT_MS = 1_772_600_767_891


def named(table: Table, row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(table.columns, row, strict=True))


def received(at: datetime = AT, offset: int = 0, **fields: Any) -> ReceivedRequest:
    return ReceivedRequest(
        request=Request.model_validate({"prompt": "p", **fields}),
        request_id="r1",
        accepted_at=at,
        topic="llm.requests",
        partition=2,
        offset=offset,
        size_bytes=14,
    )


def usage_event(**fields: Any) -> UsageEvent:
    return UsageEvent.model_validate(
        {
            "event": "spent",
            "row_id": "r1/0/1/i",
            "request_id": "r1",
            "invocation": "i",
            "provider": "openai",
            "model": "gpt",
            "hardware": "cloud",
            "task": "general",
            "strategy": "auto",
            "usage": Usage(input_tokens=3),
            "started_at": AT,
            "deadline": AT,
            **fields,
        }
    )


def dead_letter(**fields: Any) -> DeadLetter:
    error = ErrorInfo(code="invalid_json", message="no JSON")
    given_fields = {"topic": "t", "partition": 0, "offset": 9, "error": error, "dead_at": AT}
    return DeadLetter.model_validate(given_fields | fields)


def test_times_are_milliseconds_since_1970() -> None:
    """Whatever the time zone, the moment counts."""
    here = AT.astimezone(tz=None)

    row = named(ATTEMPTS, attempt_row(usage_event(started_at=here)))

    assert row["started_at"] == AT_MS


def test_a_deadline_beyond_all_columns_becomes_the_last_moment() -> None:
    """The year 9999 means never; the column ends in 2299."""
    never = datetime(9999, 12, 31, tzinfo=UTC)

    row = named(ATTEMPTS, attempt_row(usage_event(deadline=never)))

    assert row["deadline"] == 10_413_705_600_000


def test_who_pays_is_the_team_unless_said() -> None:
    """The budget key falls back to the team's name."""
    assert named(ATTEMPTS, attempt_row(usage_event(team="a")))["budget_key"] == "a"
    both = usage_event(team="a", budget_key="b")
    assert named(ATTEMPTS, attempt_row(both))["budget_key"] == "b"
    assert named(REQUESTS, request_row(received(team="a"), store_text=True))["budget_key"] == "a"


def test_a_reservation_is_an_estimate_and_yields_to_the_end() -> None:
    """`reserved` has the lower precedence, whatever its usage calls itself."""
    reserved = named(ATTEMPTS, attempt_row(usage_event(event="reserved")))
    spent = named(ATTEMPTS, attempt_row(usage_event(event="spent")))

    assert reserved["precedence"] < spent["precedence"]
    assert (reserved["usage_source"], spent["usage_source"]) == ("estimated", "reported")


def test_an_unknown_cost_stays_unknown() -> None:
    """None is not 0."""
    assert named(ATTEMPTS, attempt_row(usage_event(cost_usd=None)))["cost_usd"] is None
    assert named(ATTEMPTS, attempt_row(usage_event(cost_usd="0")))["cost_usd"] == 0


@given(st.decimals(0, Decimal("1e25"), allow_nan=False))
def test_money_is_rounded_to_a_trillionth(value: Decimal) -> None:
    """No amount is off by more than half of the last digit kept, and what fits is exact."""
    rounded = money(value)

    assert rounded is not None
    assert abs(rounded - value) <= Decimal("5e-13")
    assert rounded.as_tuple().exponent == -12


def test_money_that_no_column_holds_is_refused() -> None:
    """An absurd amount is an error, not another amount."""
    with pytest.raises(RowRejectedError, match="cost_usd"):
        money(Decimal("1e26"))


MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2299, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # the zone is given beside


@given(st.lists(st.tuples(MOMENTS, st.integers(0, 1 << 19)), min_size=2, max_size=2, unique=True))
def test_the_request_that_came_first_has_the_highest_precedence(
    pair: list[tuple[datetime, int]],
) -> None:
    """By time stamp, and within a millisecond by offset; always within the column's range."""
    early, late = sorted(
        (at.replace(microsecond=at.microsecond // 1000 * 1000), offset) for at, offset in pair
    )

    high, low = (
        named(REQUESTS, request_row(received(*item), store_text=True))["precedence"]
        for item in (early, late)
    )

    assert 0 <= low <= high < 1 << 64
    assert (low < high) == (early != late)


def test_of_two_responses_the_earlier_counts() -> None:
    """The first end stands."""
    first, second = (
        named(
            RESPONSES,
            response_row(
                Response(request_id="r1", status="completed", completed_at=at), store_text=True
            ),
        )
        for at in (AT, AT + timedelta(milliseconds=1))
    )

    assert first["precedence"] > second["precedence"]


def test_content_is_what_was_asked_and_nothing_else() -> None:
    """Messages, template, variables and tools are one JSON text; parameters are not in it."""
    row = named(
        REQUESTS,
        request_row(
            received(
                prompt=None,
                template="review@2",
                variables={"n": 2**70},
                parameters={"temperature": 1},
            ),
            store_text=True,
        ),
    )

    assert row["content"] == '{"template":"review@2","variables":{"n":1180591620717411303424}}'
    assert row["template"] == "review@2"


def test_without_text_the_sizes_remain() -> None:
    """`store_text` off leaves counts and drops every text."""
    request = named(
        REQUESTS,
        request_row(
            received(prompt=None, messages=[{"role": "user", "content": "x"}] * 3), store_text=False
        ),
    )
    response = Response(
        request_id="r1", status="completed", text="ä", data={"a": 1}, completed_at=AT
    )
    answered = named(RESPONSES, response_row(response, store_text=False))
    letter = named(
        DEAD_LETTERS,
        dead_letter_row(dead_letter(key=Blob.of(b"k"), value=Blob.of(b"\xff")), store_text=False),
    )

    assert (request["content"], request["message_count"], request["size_bytes"]) == ("", 3, 14)
    assert (answered["text"], answered["data"], answered["text_bytes"]) == ("", "", 2)
    assert (letter["key"], letter["value"], letter["value_bytes"]) == (None, None, 1)


@given(st.binary())
def test_dead_letters_keep_their_bytes_exactly(raw: bytes) -> None:
    """What was set aside can be got back from text and encoding."""
    row = named(DEAD_LETTERS, dead_letter_row(dead_letter(value=Blob.of(raw)), store_text=True))

    again = Blob(encoding=row["value_encoding"], content=row["value"])
    assert again.bytes() == raw
    assert row["value_bytes"] == len(raw)


def test_a_tombstone_has_no_value() -> None:
    """NULL, not an empty text."""
    row = named(DEAD_LETTERS, dead_letter_row(dead_letter(value=None), store_text=True))

    assert (row["value"], row["value_bytes"]) == (None, None)


def test_each_record_goes_to_its_table() -> None:
    """A batch is divided by kind, and each row knows where in the batch it was."""
    response = Response(request_id="r1", status="completed", completed_at=AT)
    batch: list[SinkRecord] = [dead_letter(), response, usage_event(), received(), response]

    placed = place(batch, store_text=True)

    assert {name: [row.position for row in rows] for name, rows in placed.rows.items()} == {
        "requests": [3],
        "attempts": [2],
        "responses": [1, 4],
        "dead_letters": [0],
    }
    assert placed.rejected == []
    assert placed.rows["dead_letters"][0].row_id == "t/0/9"
    assert all(
        len(row.row) == len(row.table.columns) for rows in placed.rows.values() for row in rows
    )


def test_a_record_that_cannot_be_a_row_is_set_aside_without_its_text() -> None:
    """The reason says what kind of fault it is and quotes nothing."""
    bad = Response(request_id="r1", status="completed", data="canary\ud800", completed_at=AT)

    placed = place([usage_event(cost_usd="1e40"), bad, usage_event()], store_text=True)

    assert [row.position for row in placed.rejected] == [0, 1]
    assert "canary" not in str(placed.rejected)
    assert [row.position for row in placed.rows["attempts"]] == [2]


def test_keys_precedence_and_clock_are_columns() -> None:
    """What a table's description names is there."""
    for table in TABLES:
        assert {*table.key, "precedence", table.clock} <= set(table.columns)
        assert len(table.columns) == len(table.types) == len(set(table.columns))
