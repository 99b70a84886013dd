"""Validators of a team's own, from a package that is built and installed here."""

import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from millrace.agents.validation.installed import load_validators, validator_names
from millrace.agents.validation.validators import Answer, ValidatorFailedError
from millrace.schemas.errors import ConfigurationError
from millrace.streams.cli.validate import app

MODULE = """
import os, signal, time
from millrace.agents.validation.validators import Verdict
from millrace.agents.validation.verdict import Problem

def quiet(answer):
    if answer.text.isupper():
        return Verdict((Problem("quiet", "the answer shouts", "Write in lower case."),), 0.0)
    if answer.text == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if answer.text == "raise":
        raise RuntimeError(answer.text)
    while answer.text == "hang":
        pass
    return {"odd": 1, "low": Verdict(score=0.5), "wild": Verdict(score=7)}.get(answer.text)
"""
ENTRY_POINTS = """[millrace.validators]
quiet = acme_checks:quiet
missing = acme_checks:no_such_function
"""
METADATA = "Metadata-Version: 2.1\nName: acme-checks\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def _wheel(folder: Path) -> Path:
    wheel = folder / "acme_checks-1.0-py3-none-any.whl"
    info = "acme_checks-1.0.dist-info"
    files = {
        "acme_checks.py": MODULE,
        f"{info}/entry_points.txt": ENTRY_POINTS,
        f"{info}/METADATA": METADATA,
        f"{info}/WHEEL": WHEEL,
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(
            f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
        )
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package is installed into."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = _wheel(tmp_path_factory.mktemp("wheel"))
    options = ["--no-index", "--no-deps", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(wheel)],
        check=True,
    )
    return folder


@pytest.fixture
def package(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, importable."""
    monkeypatch.syspath_prepend(str(installed))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends what a test has started."""
    with ExitStack() as stack:
        yield stack


def answer(text: str) -> Answer:
    return Answer(text, None, "text", "stop", "general")


@pytest.mark.usefixtures("package")
def test_an_installed_validator_judges_survives_and_is_contained(stack: ExitStack) -> None:
    """Whatever it does costs its own process; the next answer is judged by a new one."""
    validators = load_validators({"quiet"}, timeout_seconds=4.0, stack=stack)
    quiet = validators["quiet"]

    assert quiet(answer("hello")).problems == ()
    assert quiet(answer("low")).score == 0.5
    (problem,) = quiet(answer("HELLO")).problems
    assert problem.suggestion == "Write in lower case."
    for text, complaint in {
        "raise": "raised RuntimeError",
        "odd": "must return None or a Verdict",
        "wild": "score from 0 to 1",
        "kill": "ended its process",
        "hang": "took more than 4 s",
    }.items():
        with pytest.raises(ValidatorFailedError, match=complaint):
            quiet(answer(text))
        assert quiet(answer("low")).score == 0.5
    assert quiet(answer("x" * 2_000_000)).score == 1.0


@pytest.mark.usefixtures("package")
def test_a_hanging_validator_holds_others_up_no_longer_than_its_limit(stack: ExitStack) -> None:
    """Its process is ended, which a thread could not be."""
    quiet = load_validators({"quiet"}, timeout_seconds=2.0, stack=stack)["quiet"]
    quiet(answer("hello"))

    started = time.monotonic()
    with pytest.raises(ValidatorFailedError):
        quiet(answer("hang"))
    assert time.monotonic() - started < 20


@pytest.mark.usefixtures("package")
def test_what_the_config_names_must_be_there(stack: ExitStack) -> None:
    """All that is wrong is named at once, before any answer comes."""
    with pytest.raises(ConfigurationError) as caught:
        load_validators({"missing", "unheard_of", "complete"}, timeout_seconds=1, stack=stack)

    assert "'missing' (acme_checks:no_such_function) cannot be imported" in caught.value.message
    assert "'unheard_of' does not exist" in caught.value.message


@pytest.mark.usefixtures("package")
def test_one_that_cannot_be_imported_fails_only_what_asks_for_it(stack: ExitStack) -> None:
    """It is installed, but nobody relies on it."""
    validators = load_validators((), timeout_seconds=1, stack=stack)

    assert {"quiet", "missing", "complete"} <= validator_names()
    with pytest.raises(ValidatorFailedError, match="cannot be imported: AttributeError"):
        validators["missing"](answer("hello"))


@pytest.mark.usefixtures("package")
def test_the_dry_run_knows_it(tmp_path: Path) -> None:
    """By the name of its entry point."""
    file = tmp_path / "answer.txt"
    file.write_text("HELLO")

    result = CliRunner().invoke(app, [str(file), "--validator", "quiet"])

    assert result.exit_code == 1
    assert "the answer shouts. Write in lower case." in result.output
