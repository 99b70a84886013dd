"""What people see: the status line, answers as they come, records as lines."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millrace.schemas.chunk import Chunk
from millrace.schemas.response import Response
from millrace.streams.cli.output import printable
from millrace.streams.cli.record_lines import record_json, record_line, request_id_of
from millrace.streams.cli.transcript import Transcript
from millrace.streams.dead_letters import RawRecord
from millrace.streams.status import PipelineStatus, dollars, show_status, status_line

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def _chunk(sequence: int, delta: str, *, member: int = 0, attempt: int = 1) -> Chunk:
    return Chunk(
        request_id="1", member=member, attempt=attempt, invocation=f"i{attempt}",
        sequence=sequence, delta=delta, provider="p", model="m",
    )  # fmt: skip


def _response(text: str, **more: Any) -> Response:
    return Response.model_validate(
        {"request_id": "1", "status": "completed", "text": text, "completed_at": NOW, **more}
    )


def _transcript(*, inline: bool) -> tuple[Transcript, list[str]]:
    written: list[str] = []
    return Transcript(write=written.append, inline=inline), written


def test_the_status_line_says_how_it_goes() -> None:
    """Also when the lag is not known yet."""
    status = PipelineStatus(in_flight=3, completed=1200, failed=1, lag=7, cost_usd=Decimal("1.5"))

    assert status_line(status) == "in flight 3 · done 1,200 · failed 1 · lag 7 · cost $1.50"
    assert "lag ? ·" in status_line(PipelineStatus())
    limited = PipelineStatus(rate_limited=("openai", "vllm/large"))
    assert status_line(limited).endswith(" · rate limit: openai, vllm/large")


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (None, "$?"),
        (Decimal(0), "$0.00"),
        (Decimal("0.000412"), "$0.00041"),
        (Decimal("0.5"), "$0.50"),
        (Decimal("0.999999"), "$1.00"),
        (Decimal("1234.567"), "$1,234.57"),
    ],
)
def test_small_amounts_are_not_rounded_to_nothing(amount: Decimal | None, expected: str) -> None:
    """Two digits that count are shown; what is unknown is not 0."""
    assert expected == dollars(amount)


@given(amount=st.decimals(min_value="1e-10", max_value="1e9", allow_nan=False))
@settings(max_examples=100)
def test_what_costs_something_never_looks_free(amount: Decimal) -> None:
    """Within a hundredth of what it is, or a tenth for two digits."""
    shown = Decimal(dollars(amount).replace("$", "").replace(",", ""))

    assert shown > 0
    assert abs(shown - amount) <= amount / 10


async def test_the_status_is_shown_when_it_changes_and_at_the_end() -> None:
    """Not again when it is the same."""
    stop = asyncio.Event()
    lines: list[str] = []
    counts = iter([0, 0, 1, 2])
    last = 0

    def read() -> PipelineStatus:
        nonlocal last
        last = next(counts, last)
        if last == 2:
            stop.set()
        return PipelineStatus(completed=last)

    await show_status(read, lines.append, stop=stop, refresh_seconds=0.001)

    assert [f"done {n}" in line for n, line in enumerate(lines)] == [True, True, True]


def test_tokens_are_written_as_they_come_and_not_again_with_the_response() -> None:
    """A newline ends the answer."""
    transcript, written = _transcript(inline=True)

    for sequence, delta in enumerate(("Hel", "lo", " you")):
        transcript.chunk(_chunk(sequence, delta))
    transcript.response(_response("Hello you"))

    assert "".join(written) == "Hello you\n1: completed\n"


def test_what_the_chunks_lack_is_completed_from_the_response() -> None:
    """Topics may be read in any order."""
    transcript, written = _transcript(inline=True)

    transcript.chunk(_chunk(0, "Hel"))
    transcript.response(_response("Hello\n"))

    assert "".join(written) == "Hello\n1: completed\n"


def test_an_answer_without_chunks_is_written_whole() -> None:
    """As plain requests have none."""
    transcript, written = _transcript(inline=True)

    transcript.response(_response("Hello"))

    assert "".join(written) == "Hello\n1: completed\n"


def test_a_cost_that_is_not_final_says_so() -> None:
    """More is booked once the calls have stopped that lost a race."""
    transcript, written = _transcript(inline=True)
    usage = {"input_tokens": 1, "output_tokens": 2, "source": "reported"}
    transcript.response(_response("Hi", usage=usage, cost_usd="0.5", cost_final=False))

    assert "".join(written) == "Hi\n1: completed · 1+2 tokens · $0.50 so far\n"


def test_another_attempt_begins_the_answer_again() -> None:
    """What came before it is void, and what comes late of it is not shown."""
    transcript, written = _transcript(inline=True)

    transcript.chunk(_chunk(0, "Wro"))
    transcript.chunk(_chunk(0, "Right", attempt=2))
    transcript.chunk(_chunk(1, "ng"))
    transcript.response(_response("Right"))

    expected = "Wro\n— begun again, attempt 2 by p/m\nRight\n1: completed\n"
    assert expected == "".join(written)


def test_several_answers_are_written_by_lines_with_names() -> None:
    """So that they can be told apart."""
    transcript, written = _transcript(inline=False)

    transcript.chunk(_chunk(0, "one\ntw"))
    transcript.chunk(_chunk(0, "uno", member=1))
    transcript.chunk(_chunk(1, "o"))
    transcript.response(_response("one\ntwo"))

    lines = "".join(written).splitlines()
    assert lines[0] == "1 │ one"
    assert {"1 │ two", "1/1 │ uno"} <= set(lines)
    assert lines[-1] == "1: completed"


def test_an_answer_cannot_steer_the_terminal() -> None:
    """Escape sequences are made visible; lines and tabs stay."""
    assert printable("a\x1b[2Jb\r\n\tc\u202e") == "a\ufffd[2Jb\ufffd\n\tc\ufffd"
    assert printable("Grüße, 世界 🎉") == "Grüße, 世界 🎉"


def _record(value: Any, *, topic: str = "llm.requests", schema: bytes = b"") -> RawRecord:
    raw = value if isinstance(value, bytes | None) else orjson.dumps(value)
    return RawRecord(topic, 2, 7, NOW, b"k", raw, (("schema", schema),) if schema else ())


ERROR = {"code": "c", "message": "m"}
CANDIDATES = [{"provider": "a", "model": "b"}, {"provider": "c", "model": "d"}]
CALL = {
    "job": {"request_id": "1"},
    "member": 0,
    "attempt": 2,
    "candidate": 1,
    "plan": {"members": [{"candidates": CANDIDATES}]},
}
ALERT = {
    "budget": "a",
    "window": "day",
    "window_start": "2026-03-01",
    "share": "0.8",
    "spent_usd": "8",
    "limit_usd": "10",
    "spent_tokens": 5,
    "limit_tokens": None,
}


@pytest.mark.parametrize(
    ("kind", "value", "schema", "expected"),
    [
        ("requests", {"prompt": "x\ny", "team": "a"}, b"", "(no id)  general  team a  x y"),
        ("chunks", {"request_id": "1", "member": 0, "attempt": 1, "sequence": 3, "delta": "x"}, b"",
         "1/0/1 #3  'x'"),
        ("calls", CALL, b"", "1/0/2  c/d  candidate 2 of 2"),
        ("outcomes", {"call": CALL, "status": "completed", "text": "x"}, b"outcome",
         "1/0/2  c/d  completed  x"),
        ("outcomes", {"request_id": "1", "status": "expired"}, b"refusal", "1  expired"),
        ("responses", {"request_id": "1", "status": "failed", "error": ERROR}, b"",
         "1  failed  c: m"),
        ("cancellations", {"request_id": "1"}, b"", "1"),
        ("usage", {"call": CALL, "usd": "0.5", "tokens": 7, "pending": ["a"]}, b"budget-claim",
         "1/0/2  asks budget a  for at most 7 tokens, $0.5"),
        ("usage", {"call": CALL, "usd": None, "tokens": 7, "pending": []}, b"budget-claim", "…"),
        ("usage", {"budget": "a", "claim_id": "1/0/2", "usd": None, "tokens": 7, "final": False},
         b"budget-settlement", "1/0/2  tells budget a  7 tokens, cost unknown  broken off"),
        ("usage", {"budget": "a", "claim_id": "1/0/2"}, b"budget-release",
         "1/0/2  gives back to budget a"),
        ("usage", ALERT, b"budget-alert",
         "budget a has spent 80%  of the day from 2026-03-01  $8 of $10"),
        ("usage", {**ALERT, "share": "much"}, b"budget-alert", "…"),
        ("weather", {"sun": True}, b"", '{"sun":true}'),
        ("requests", b"not json", b"", "not a JSON object: not json"),
        ("requests", None, b"", "tombstone for key 'k'"),
        ("responses", {"odd": 1}, b"", '{"odd":1}'),
    ],
)  # fmt: skip
def test_a_record_is_one_line(kind: str, value: Any, schema: bytes, expected: str) -> None:
    """Whatever is wrong with it."""
    line = record_line(_record(value, schema=schema), kind=kind)

    assert line.startswith("12:00:00.000 ")
    assert "2@7" in line
    assert line.endswith(expected)


@given(value=st.binary(max_size=60) | st.builds(orjson.dumps, st.recursive(
    st.none() | st.integers(0, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([
            "request_id", "call", "job", "plan", "error", "usage", "messages", "pending", "share"
        ]), inner
    ),
    max_leaves=10,
)))  # fmt: skip
@example(value=b'{"request_id":"a\\nb"}')
@settings(max_examples=100)
def test_no_record_is_too_odd_to_be_shown(value: bytes) -> None:
    """On one line, by every kind, and as JSON."""
    record = _record(value)

    for kind in ("requests", "chunks", "calls", "outcomes", "responses", "usage", "dead-letters"):
        assert "\n" not in record_line(record, kind=kind)
    for schema in (b"budget-claim", b"budget-settlement", b"budget-release", b"budget-alert"):
        assert "\n" not in record_line(_record(value, schema=schema), kind="usage")
    assert orjson.dumps(record_json(record))
    request_id_of(record)


def test_bytes_that_are_no_json_are_shown_whole_as_base64() -> None:
    """Nothing is lost."""
    shown = record_json(_record(b"\xff\x00"))

    assert (shown["value"], shown["value_base64"]) == (None, "/wA=")


@pytest.mark.parametrize(
    "value", [{"request_id": "1"}, CALL, {"call": CALL}, {"claim_id": "1/0/2"}]
)
def test_the_request_a_record_belongs_to_is_found(value: dict[str, Any]) -> None:
    """Wherever the record says so."""
    assert request_id_of(_record(value)) == "1"
