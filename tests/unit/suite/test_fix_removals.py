"""What `make faults-removed` takes out is still there, and the page on reliability names it."""

import re
from itertools import groupby
from pathlib import Path

import pytest
from harness.removal import ROOT, DoesNotApplyError, Edit, Removal, removals

MODES = 25
REMOVALS = removals()
_ROW = re.compile(r"^\| (\d+) \|(.+)\|$", re.MULTILINE)


def named(removal: Removal) -> str:
    """For the names of tests."""
    return removal.name


def rows() -> dict[int, str]:
    """The table of the page, by the number of the way of failing."""
    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    table = page.split("## Ways of failing, and their tests")[1].split("\n## ")[0]
    return {int(number): row for number, row in _ROW.findall(table)}


def test_every_way_of_failing_has_one() -> None:
    """A fix whose tests were not seen to fail is not known to be tested."""
    assert [mode for mode, _ in groupby(each.mode for each in REMOVALS)] == list(
        range(1, MODES + 1)
    )


@pytest.mark.parametrize("removal", REMOVALS, ids=named)
def test_what_it_takes_out_stands_in_the_code(removal: Removal, tmp_path: Path) -> None:
    """Exactly once, and what remains is another text; the copy is whole again afterwards."""
    for edit in removal.edits:
        (tmp_path / edit.file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / edit.file).write_bytes((ROOT / edit.file).read_bytes())
    with removal.applied(tmp_path):
        for edit in removal.edits:
            without = (tmp_path / edit.file).read_text("utf-8")
            assert without != (ROOT / edit.file).read_text("utf-8")
            if edit.file.endswith(".py"):
                compile(without, edit.file, "exec")

    for edit in removal.edits:
        assert (tmp_path / edit.file).read_bytes() == (ROOT / edit.file).read_bytes()


@pytest.mark.parametrize("removal", REMOVALS, ids=named)
def test_the_page_names_its_fix_and_its_tests(removal: Removal) -> None:
    """In the row of its way of failing: where the fix is, which tests fail, and how."""
    row = rows()[removal.mode]

    assert removal.without in row
    for edit in removal.edits:
        assert f"`{edit.file}`" in row
    for test in removal.tests:
        assert f"`{test}`" in row
        file, *name = test.partition("[")[0].split("::")
        source = (ROOT / file).read_text("utf-8")
        assert not name or re.search(rf"(?m)^(async )?def {name[0]}\(|^{name[0]} = ", source)
    assert re.compile(removal.says)


def test_a_change_of_the_code_is_told() -> None:
    """With the file, and what is not there any more."""
    edit = Edit("streams/caller.py", "as it was", "")

    with pytest.raises(DoesNotApplyError, match=r"streams/caller\.py has 0 times .*as it was"):
        edit.applied("as it is")
