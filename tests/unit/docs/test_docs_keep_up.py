"""What the documentation names is there."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.streams.cli.main import COMMANDS
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.settings import Settings
from millrace.streams.topics import topic_specs

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is a file."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """Every path of the repository that stands in the text is there."""
    folders = "agents|bench|prompts|providers|schemas|scripts|sinks|streams|tests"
    paths = re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text("utf-8"))

    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_commands_in_the_readme_exist() -> None:
    """No command of the program is made up, and none that matters is missing."""
    text = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"millrace (\w+)(?=[ `\n])", text)) - {"check"}

    assert named <= set(COMMANDS)
    assert {"up", "send", "report", "sql", "topics", "schemas", "replay", "simulate"} <= named


def test_targets_in_the_readme_exist() -> None:
    """Every `make` target that the README names is in the Makefile."""
    named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text("utf-8")))
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

    assert named <= there


def test_every_topic_is_described() -> None:
    """The page on topics has a row for each, with its records and how long they are kept."""
    text = (ROOT / "docs" / "topics.md").read_text("utf-8")

    for spec in topic_specs(KafkaSettings(), providers=["<provider>"]):
        row = re.search(rf"^\| `{re.escape(spec.name)}` \|.*$", text, re.MULTILINE)
        assert row is not None, spec.name
        assert all(f"`{schema}`" in row[0] for schema in spec.schemas)
        days = round((spec.retention_ms or 0) / 86_400_000)
        assert row[0].endswith(f"| {days} day{'' if days == 1 else 's'} |")


def examples(language: str) -> list[str]:
    """The blocks of code of one language in the README."""
    text = (ROOT / "README.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_records_in_the_readme_are_valid() -> None:
    """A request and a response can be read as what they are."""
    request, response = examples("json")

    assert Request.decode(request.encode()).request_id is not None
    assert Response.decode(response.encode()).status == "completed"
    assert set(json.loads(response)) <= set(Response.model_fields)


def test_settings_in_the_readme_are_valid() -> None:
    """The examples can be put into a config file."""
    text = "".join(examples("toml"))
    tree = {"clickhouse": {"url": "chdb:///tmp/engine"}, **tomllib.loads(text)}

    settings = Settings.model_validate(tree)

    assert settings.routes.for_task("code_review").strategy == "local_first"
    assert settings.budgets.named("payments") is not None


def test_python_in_the_readme_compiles() -> None:
    """Each example is a whole program."""
    for text in examples("python"):
        assert compile(text, "README.md", "exec")
