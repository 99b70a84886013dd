"""What the file sink does beyond the contract of all sinks."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from millrace.schemas.errors import ConfigurationError
from millrace.sinks.files import JsonLinesSink, read_rows
from millrace.sinks.tables import ATTEMPTS, DEAD_LETTERS


async def test_a_line_that_a_crash_left_unfinished_is_cut_off(tmp_path: Path, make: Any) -> None:
    """After a crash in the middle of a line, what follows can be read."""
    path = tmp_path / "attempts.jsonl"
    path.write_bytes(
        b'{"request_id":"r0","row_id":"r0/0/1/i","precedence":2}\n{"request_id":' + b"x" * 99_999
    )
    sink = JsonLinesSink(folder=tmp_path)

    await sink.open()
    await sink.write([make.usage("r1")])
    await sink.aclose()

    assert [row["request_id"] for row in read_rows(tmp_path, ATTEMPTS)] == ["r0", "r1"]


async def test_a_file_without_any_line_end_is_emptied(tmp_path: Path) -> None:
    """A single unfinished line leaves nothing."""
    path = tmp_path / "attempts.jsonl"
    path.write_bytes(b"x" * 200_000)
    sink = JsonLinesSink(folder=tmp_path)

    await sink.open()
    await sink.aclose()

    assert path.read_bytes() == b""


async def test_lines_are_plain_json_with_times_in_words(tmp_path: Path, make: Any) -> None:
    """Any program can read a line: ISO 8601 times, money as exact text."""
    sink = JsonLinesSink(folder=tmp_path / "new" / "folder")

    await sink.open()
    await sink.write([make.usage(cost_usd="0.1"), make.dead_letter(4, b"\xff")])
    await sink.aclose()

    [line] = (tmp_path / "new" / "folder" / "attempts.jsonl").read_bytes().splitlines()
    row = orjson.loads(line)
    assert row["started_at"] == make.now.isoformat()
    assert row["cost_usd"] == "0.100000000000"
    [letter] = read_rows(tmp_path / "new" / "folder", DEAD_LETTERS)
    assert (letter["value"], letter["value_encoding"], letter["value_bytes"]) == (
        "/w==",
        "base64",
        1,
    )


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The operator must give another folder."""
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(ConfigurationError, match="taken"):
        await JsonLinesSink(folder=tmp_path / "taken").open()
