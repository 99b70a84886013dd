"""The page on reliability names, for each way of failing, tests that exist."""

import re
from pathlib import Path

import pytest
from harness.catalogue import SHORT
from harness.crash import ROUNDS

ROOT = Path(__file__).parents[3]
FAILURES = 25
_ROW = re.compile(r"^\| (\d+) \|[^|]+\|(.+)\|$", re.MULTILINE)
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:\[([^\]`]+)\])?`")
_INJECTED = {fault.name for fault in SHORT} | ROUNDS.keys()


def rows() -> dict[int, list[tuple[str, str, str]]]:
    """File, test and parameter of each test named, by the number of the failure."""
    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    table = page.split("## Ways of failing, and their tests")[1].split("\n## ")[0]
    return {int(number): _NAMED.findall(tests) for number, tests in _ROW.findall(table)}


def test_every_failure_has_a_row() -> None:
    """None is left out, and none is there twice under another number."""
    assert sorted(rows()) == list(range(1, FAILURES + 1))


@pytest.mark.parametrize("number", range(1, FAILURES + 1))
def test_every_test_that_is_named_exists(number: int) -> None:
    """With its parameter, where it has one."""
    named = rows()[number]

    assert named, f"failure {number} has no test"
    for file, test, parameter in named:
        source = (ROOT / file).read_text("utf-8")
        assert re.search(rf"(?m)^(async )?def {test}\(|^{test} = ", source), f"{file}::{test}"
        if parameter and file.endswith("test_fault_matrix.py"):
            assert parameter in _INJECTED, parameter
