"""The ledger's account."""

import asyncio
from itertools import count
from pathlib import Path

import orjson
import pytest

from millrace.providers.simulator.ledger import Ledger, LedgerFilter


def _ledger(*, memory_lines: int = 100, path: Path | None = None) -> Ledger:
    ticks = count(1)
    return Ledger(now=lambda: float(next(ticks)), memory_lines=memory_lines, path=path)


def _fill(ledger: Ledger, calls: int) -> None:
    for index in range(calls):
        line = ledger.open(instance=f"i{index % 2}", wire="openai")
        line.status, line.input_tokens, line.generated_tokens = 200, 10, index
        line.ended = "complete"
        ledger.close(line)


def test_a_line_is_there_from_the_beginning_of_its_call() -> None:
    """Open first, then ended, once each."""
    ledger = _ledger()
    line = ledger.open(instance="a", wire="gemini")
    before = [(entry.ended, entry.ended_at) for entry in ledger.lines()]
    line.ended = "cut"

    ledger.close(line)
    ledger.close(line)

    assert before == [("open", None)]
    assert [entry.ended for entry in ledger.lines()] == ["cut"]
    assert line.ended_at is not None
    assert line.ended_at > line.started_at


@pytest.mark.parametrize("memory_lines", [1, 7, 1000])
def test_no_line_is_lost_beyond_the_memory(memory_lines: int) -> None:
    """Lines in the temporary file are the same as those in memory, in the order they ended."""
    ledger = _ledger(memory_lines=memory_lines)
    _fill(ledger, 10)
    half_read = ledger.lines()
    next(half_read)
    _fill(ledger, 10)

    assert list(range(1, 21)) == [line.sequence for line in ledger.lines()]
    assert ledger.totals().generated_tokens == 90
    ledger.shut()


def test_a_filter_picks_lines() -> None:
    """By any field, and by what came after a line."""
    ledger = _ledger()
    _fill(ledger, 6)

    picked = ledger.lines(LedgerFilter(instance="i1", after=2))

    assert [line.sequence for line in picked] == [4, 6]


def test_totals_sum_by_instance() -> None:
    """Open calls are counted apart."""
    ledger = _ledger()
    _fill(ledger, 5)
    ledger.open(instance="i1", wire="openai")

    totals = ledger.by_instance()

    assert totals.keys() == {"i0", "i1"}
    assert (totals["i0"].calls, totals["i0"].input_tokens) == (3, 30)
    assert (totals["i0"].generated_tokens, totals["i0"].sent_tokens) == (6, 0)
    assert (totals["i1"].calls, totals["i1"].open, totals["i1"].completed) == (3, 1, 2)


def test_a_journal_gets_each_line_as_its_call_ends(tmp_path: Path) -> None:
    """Readable by another process at once, and kept over a clearing."""
    path = tmp_path / "calls.jsonl"
    ledger = _ledger(path=path)
    _fill(ledger, 3)
    ledger.clear()

    lines = [orjson.loads(raw) for raw in path.read_bytes().splitlines()]

    assert [line["sequence"] for line in lines] == [1, 2, 3]
    assert list(ledger.lines()) == []
    ledger.shut()


def test_a_call_open_while_the_ledger_is_cleared_leaves_no_line() -> None:
    """It belongs to the account before."""
    ledger = _ledger()
    line = ledger.open(instance="a", wire="openai")
    ledger.clear()
    ledger.close(line)

    assert ledger.totals().calls == 0


async def test_waiting_ends_when_the_condition_holds() -> None:
    """Looked at after each change, without polling."""
    ledger = _ledger()
    waiting = asyncio.ensure_future(ledger.until(lambda account: account.totals().completed == 2))
    for _ in range(2):
        assert not waiting.done()
        _fill(ledger, 1)
        await asyncio.wait([waiting], timeout=0)

    await waiting
