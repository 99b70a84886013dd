"""`millrace explain`: what a dry run tells."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from millrace.streams.cli.explain import app

CONFIG = """
[providers.openai]
wire = "openai"
base_url = "http://127.0.0.1:1/v1"

[providers.openai.models.mini]
quality = 60
price = {input = "1", output = "2"}

[providers.openai.models.big]
quality = 90
price = {input = "10", output = "20"}

[providers.gpu]
wire = "ollama"
base_url = "http://127.0.0.1:1"
hardware = "gpu"

[providers.gpu.models.llama]
quality = 40
"""


@pytest.fixture(autouse=True)
def _config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MILLRACE_CONFIG", raising=False)
    (tmp_path / "millrace.toml").write_text(CONFIG)


def explain(request: dict[str, Any], *options: str) -> Any:
    """Run the command on a request, from stdin."""
    return CliRunner().invoke(app, ["-", *options], input=json.dumps(request))


def test_a_plan_is_shown_with_its_reasons() -> None:
    """In order, with what each call would cost, and who was passed over why."""
    result = explain(
        {"prompt": "Summarize this.", "route": {"max_cost_usd": "0.01"}, "task": "reasoning"}
    )

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "Task        reasoning (as named)"
    rows = [line.split() for line in lines if line[:1].isdigit()]
    assert [row[1:4] for row in rows] == [["openai", "mini", "cloud"], ["gpu", "llama", "gpu"]]
    assert "  - openai/big: it would cost about $0.020" in result.stdout
    assert "  - at most $0.01 in all" in result.stdout


def test_a_guess_is_shown_as_one() -> None:
    """How it came about, and how sure it is."""
    result = explain({"prompt": "Summarize this article in one paragraph."})

    assert result.stdout.startswith("Task        summarization (guessed by rules, ")


def test_members_stages_and_tiers_are_shown_where_there_are_any() -> None:
    """Columns that say nothing are left out."""
    merged = explain(
        {"prompt": "x", "route": {"strategy": "ensemble", "mode": "merge", "members": 2}}
    ).stdout
    tiers = explain({"prompt": "x", "route": {"strategy": "cascade"}}).stdout

    assert "Stage  Member  Role" in merged
    assert "mode merge" in merged
    assert "Tier  Order" in tiers
    assert "Confidence  by score, at least 0.7" in tiers
    assert "Stage" not in tiers


def test_as_json_it_is_one_document() -> None:
    """For programs: the same, whole."""
    result = explain({"prompt": "x", "route": {"strategy": "delegate", "max_parts": 2}}, "--json")

    found = json.loads(result.stdout)
    assert found["routed"] is True
    assert found["strategy"] == "delegate"
    assert found["task_source"] == "default"
    roles = [each["role"] for each in found["candidates"] if each["place"] == 0]
    assert roles == ["plan", "part", "part", "combine"]
    assert found["candidates"][0]["model"] == "big"
    assert found["candidates"][0]["weight"] == 1.0
    assert found["reasons"]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_refusal_is_told_with_its_code(options: tuple[str, ...]) -> None:
    """As the requester would be told."""
    result = explain(
        {"prompt": "x", "route": {"sensitivity": "private", "providers": ["openai"]}}, *options
    )

    assert result.exit_code == 1
    if options:
        assert json.loads(result.stdout)["error"]["code"] == "no_route"
    else:
        assert result.stdout.startswith("rejected (no_route): no model fits")


def test_options_make_the_request_as_they_do_for_sending() -> None:
    """So that what is about to be sent can be tried by changing one word."""
    options = ["--prompt", "x", "--task", "reasoning", "--private", "--max-tokens", "10"]
    result = CliRunner().invoke(app, [*options, "--json"])

    found = json.loads(result.stdout)
    assert (found["task"], found["task_source"]) == ("reasoning", "named")
    assert {each["provider"] for each in found["candidates"]} == {"gpu"}


def test_options_do_not_go_with_a_file() -> None:
    """One of the two would be passed over without a word."""
    result = CliRunner().invoke(app, ["-", "--prompt", "x"], input='{"prompt": "y"}')

    assert "one or the other" in str(result.exception)


def test_what_is_no_request_is_wrong_usage(tmp_path: Path) -> None:
    """The file and the field are named."""
    (tmp_path / "bad.json").write_text('{"prompt": "x", "colour": "blue"}')

    result = CliRunner().invoke(app, ["bad.json"])
    missing = CliRunner().invoke(app, ["nosuch.json"])

    assert "colour" in str(result.exception)
    assert "'nosuch.json' cannot be read" in str(missing.exception)
