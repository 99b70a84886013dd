"""What a type checker finds in code that uses the client."""

import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / "docs" / "client.md"
SAMPLE = """
import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import assert_type

from millrace.client import Answer, BlockingMillrace, Millrace, Piece, Position
from millrace.schemas.response import Response


async def use(client: Millrace, since: datetime) -> None:
    assert_type(await client.complete("a", lane="batch", model="m"), Response)
    assert_type(await client.ensemble("a", mode="chain", members=2, team="t"), Response)
    assert_type(await client.delegate("a", max_parts=2), Response)
    assert_type(await client.embed(["a"], dimensions=8, provider="p"), Response)
    answer = await client.stream("a", member=0)
    assert_type(answer, Answer)
    assert_type([piece async for piece in answer], list[Piece])
    assert_type(answer.position, Position)
    assert_type(await client.follow("id", since=since, after=answer.position), Answer)


def use_blocking(client: BlockingMillrace, since: datetime) -> None:
    assert_type(client.complete("a", tags={"a": "b"}), Response)
    with client.follow("id", since=since) as answer:
        assert_type(list(answer), list[Piece])
        assert_type(answer.completed(), Response)
"""
MISTAKES = """
from millrace.client import BlockingMillrace, Millrace


async def use(client: Millrace, blocking: BlockingMillrace) -> None:
    await client.complete("a", temprature=1.0)
    await client.ensemble("a", mode="majority")
    await client.complete("a", task="poetry")
    await client.embed("a", dimensions="8")
    blocking.follow("id")
"""


def checked(*programs: str, folder: Path) -> list[str]:
    """The errors that a strict check finds in these programs."""
    files = []
    for number, program in enumerate(programs):
        files.append(folder / f"program_{number}.py")
        files[-1].write_text(program)
    # Beside the repository's own cache: what this run sees of the packages is not all there is.
    config = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(folder / "cache"))
    found, complaint, _ = api.run([*config, *map(str, files)])
    assert not complaint, complaint
    return [line for line in found.splitlines() if ": error:" in line]


def test_code_that_uses_the_client_is_checked_strictly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guide's programs and every method are sound, and each mistake is found."""
    monkeypatch.chdir(ROOT)
    programs = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(programs) >= 6

    errors = checked(*programs, SAMPLE, MISTAKES, folder=tmp_path)

    mistaken = [
        number for number, line in enumerate(MISTAKES.splitlines(), 1) if line[:4] == "    "
    ]
    assert sorted({int(each.split(":")[1]) for each in errors if "program_" in each}) == mistaken
    name = f"program_{len(programs) + 1}.py"
    assert all(name in each for each in errors), errors
