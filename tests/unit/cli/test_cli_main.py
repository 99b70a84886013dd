"""The program as a whole: overview, exit codes, errors."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from millrace.schemas.errors import (
    BrokerError,
    ConfigurationError,
    PipelineError,
    ProviderUnavailableError,
    RequestRefusedError,
    SinkUnavailableError,
)
from millrace.streams.cli.exits import FAILED, UNREACHABLE, USAGE, exit_code
from millrace.streams.cli.main import COMMANDS, app

WRITTEN = [name for name in COMMANDS if name != "demo"]

for _entry in map(COMMANDS.__getitem__, WRITTEN):
    # Libraries try sockets when they are imported, which tests may not.
    import_module(f"millrace.streams.cli.{_entry.module}")


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MILLRACE_CONFIG", "KAFKA_BOOTSTRAP_SERVERS", "CLICKHOUSE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_the_overview_names_every_command() -> None:
    """In the order in which one needs them."""
    result = CliRunner().invoke(app, ["--help"])

    assert result.exit_code == 0
    positions = [result.stdout.index(f"\n  {name} ") for name in COMMANDS]
    assert positions == sorted(positions)


def test_the_overview_loads_nothing_heavy() -> None:
    """It must come at once, so no module of a command is imported for it."""
    script = (
        "import sys; from millrace.streams.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'faust', 'aiokafka', 'chdb', 'confluent_kafka', 'pydantic', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )

    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout

    assert printed.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", WRITTEN)
def test_every_command_explains_itself_by_examples(name: str) -> None:
    """The examples stand on lines of their own, and so do the exit codes."""
    result = CliRunner().invoke(app, [name, "--help"])

    assert result.exit_code == 0
    assert f"\n  Examples:\n    millrace {name}" in result.stdout
    assert "Exit codes: 0" in result.stdout
    assert "--install-completion" not in result.stdout


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigurationError("x"), USAGE),
        (BrokerError("x"), UNREACHABLE),
        (SinkUnavailableError("x"), UNREACHABLE),
        (ProviderUnavailableError("x"), UNREACHABLE),
        (RequestRefusedError("x"), FAILED),
        (PipelineError("x"), FAILED),
        (ValueError("x"), None),
    ],
)
def test_a_failure_has_the_exit_code_of_its_kind(error: Exception, expected: int | None) -> None:
    """What is no failure of ours has none: it is a bug and shows its traceback."""
    assert expected == exit_code(error)


@pytest.mark.parametrize(
    "arguments",
    [
        ["send", "--prompt", "x"],
        ["watch"],
        ["topics"],
        ["replay", "--from", "1h"],
        ["up"],
    ],
)
def test_without_a_broker_one_sentence_says_what_to_set(arguments: list[str]) -> None:
    """And nothing is started, nothing printed to stdout."""
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == USAGE
    assert "KAFKA_BOOTSTRAP_SERVERS=host:port" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_unknown_command_is_wrong_usage() -> None:
    """The exit code tells."""
    assert CliRunner().invoke(app, ["snd"]).exit_code == USAGE


def test_the_config_file_is_taken_from_the_option_the_variable_or_the_folder(
    tmp_path: Path,
) -> None:
    """In this order."""
    for name in ("option", "variable"):
        (tmp_path / f"{name}.toml").write_text(f"{name}_is_no_setting = 1\n")
    (tmp_path / "millrace.toml").write_text("folder_is_no_setting = 1\n")
    environ = {"MILLRACE_CONFIG": str(tmp_path / "variable.toml")}
    option = ["--config", str(tmp_path / "option.toml")]

    assert "option_is_no" in CliRunner().invoke(app, ["watch", *option], env=environ).stderr
    assert "variable_is_no" in CliRunner().invoke(app, ["watch"], env=environ).stderr
    assert "folder_is_no" in CliRunner().invoke(app, ["watch"]).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--role", "router,cook"], "there is no role 'cook'"),
        (["report", "weather"], "there is no report 'weather'"),
        (["schemas", "weather"], "there is no record 'weather'"),
        (["replay", "--from", "1h", "--to", "2h"], "is not before"),
        (["replay", "--from", "1h", "--task", "cooking"], "--task 'cooking' is none"),
        (["replay", "--from", "1h", "--prompt", "general"], "is no NAME@VERSION"),
        (["replay", "--from", "1h", "--replay-id", "a b"], "--replay-id 'a b' must be"),
        (["send", "--prompt", "x", "--var", "y"], "--var 'y' is no NAME=VALUE"),
        (["send", "--prompt", "x", "--strategy", "luck"], "route.strategy: Input should be"),
        (["send", "missing.jsonl"], "'missing.jsonl' cannot be read"),
        (["send", "x.jsonl", "--prompt", "x"], "do not go with a file"),
        (["sql", " "], "no statement"),
        (["simulate", "--answer-tokens", "many"], "is no range"),
        (["simulate", "--rate", "cloud:2:http=500"], "is not INSTANCE:SHARE:BEHAVIOUR"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], said: str) -> None:
    """Before anything is reached for."""
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == USAGE
    assert said in result.stderr
