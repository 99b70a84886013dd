"""Every command line that the documentation shows can be typed as it stands."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

from millrace.streams.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "bench" / "README.md",
    ROOT / "deploy" / "prometheus" / "millrace.rules.yml",
    ROOT / ".env.example",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / "streams" / "cli" / f"{entry.module}.py" for entry in COMMANDS.values()),
]
_QUOTED = re.compile(r"`millrace ([^`\n]+)`")
_TYPED = re.compile(r"^(?:\$ |\s+)?(?:.*\| )?(?:[A-Z_]+=\S+ )*millrace ([^`\n]+)$", re.MULTILINE)
_ENDS = {"|", "#", ">", "&&"}


def shown(page: Path) -> list[str]:
    """What follows the program's name, in quoted text and in blocks of commands."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    if page.suffix == ".py":
        blocks = re.findall(r"Examples:\n(.*?)\"\"\"", text, re.DOTALL)
    return [*_QUOTED.findall(text), *(line for block in blocks for line in _TYPED.findall(block))]


def arguments(line: str) -> list[str]:
    """The words of a command, up to a pipe or a remark."""
    words = shlex.split(line)
    return words[: next((at for at, word in enumerate(words) if word in _ENDS), len(words))]


PROGRAMS = {
    name: get_command(import_module(f"millrace.streams.cli.{entry.module}").app)
    for name, entry in COMMANDS.items()
}
"""Loaded here, as a library tries a socket when it is."""
COMMAND_LINES = sorted({line.strip() for page in PAGES for line in shown(page)})


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_that_is_shown_can_be_typed(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options and arguments exist; what has values is given some."""
    name, *rest = arguments(line)
    monkeypatch.chdir(tmp_path)
    for word in rest:
        if re.fullmatch(r"[\w-]+\.(txt|md|json)", word):
            (tmp_path / word).write_text("{}")
    if rest[-1:] == ["--env-file"]:
        rest.append("keys.env")
    try:
        with PROGRAMS[name].make_context(name, rest):
            pass
    except Exception as error:
        # A sentence about replays need not say of which days; Typer's own class is private.
        if type(error).__name__ != "MissingParameter":
            raise


def test_the_documentation_shows_commands() -> None:
    """Lest the test above look at none."""
    assert len(COMMAND_LINES) > 50
    assert {arguments(line)[0] for line in COMMAND_LINES} == set(COMMANDS)
