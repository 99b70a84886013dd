"""What a fix is without which a test has to fail, and how it is taken out of a copy of the code.

Each file in `tests/faults/removals` is one: what stands in the code, what stands there without
the fix, the tests that must fail then, and what they must say.
"""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
REMOVALS = ROOT / "tests" / "faults" / "removals"


class DoesNotApplyError(Exception):
    """The code has changed: what is to be taken out is not there, or not there once."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A place in the code, as it is and as it would be without the fix."""

    file: str
    """From the repository's root."""
    old: str
    new: str

    def applied(self, source: str) -> str:
        """The file without the fix.

        Raises:
            DoesNotApplyError: `old` does not stand there exactly once.
        """
        count = source.count(self.old)
        if count != 1:
            raise DoesNotApplyError(
                f"{self.file} has {count} times what is to be taken out of it, not once; "
                f"look where it has gone: {self.old!r}"
            )
        return source.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Removal:
    """A fix taken out."""

    name: str
    mode: int
    """The way of failing that the fix is for, as numbered in docs/reliability.md."""
    fix: str
    """What is taken out, in words."""
    without: str
    """How the tests fail then, in words."""
    tests: tuple[str, ...]
    """Each of them must fail; as pytest names them."""
    says: str
    """Stands in what pytest prints then, so that they fail for this reason and no other."""
    edits: tuple[Edit, ...]

    @contextmanager
    def applied(self, root: Path) -> Iterator[None]:
        """Take it out of the repository's copy at `root`, and put it back at the end of the block.

        Raises:
            DoesNotApplyError: The code has changed.
        """
        whole = {edit.file: (root / edit.file).read_bytes() for edit in self.edits}
        try:
            for edit in self.edits:
                file = root / edit.file
                file.write_text(edit.applied(file.read_text("utf-8")), "utf-8")
            yield
        finally:
            for name, content in whole.items():
                (root / name).write_bytes(content)


def removals() -> list[Removal]:
    """All of them, by the number of the way of failing."""
    return sorted(map(_read, REMOVALS.glob("*.toml")), key=lambda each: (each.mode, each.name))


def _read(file: Path) -> Removal:
    tree = tomllib.loads(file.read_text("utf-8"))
    edits = tuple(Edit(**each) for each in tree.pop("edits"))
    return Removal(name=file.stem, edits=edits, tests=tuple(tree.pop("tests")), **tree)
