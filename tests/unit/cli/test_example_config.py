"""The example files say what is true."""

import re
import tomllib
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from millrace.agents.policy import TaskRoute
from millrace.streams.settings import Settings, load_settings

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "millrace.example.toml"


def test_the_example_config_is_valid() -> None:
    """It can be copied and used as it is."""
    settings = load_settings(EXAMPLE, {})

    assert settings.kafka.bootstrap_servers == ("localhost:9092",)
    assert settings.validation.for_task("summarization").rules.max_chars == 2_000
    assert settings.routes.for_task("code_review").strategy == "cloud_first"
    assert [each.name for each in settings.budgets.root] == ["all", "payments-reviews"]


def test_the_example_config_has_every_section() -> None:
    """A new section must be explained there."""
    assert set(Settings.model_fields) == set(tomllib.loads(EXAMPLE.read_text("utf-8")))


def test_the_example_config_names_every_setting() -> None:
    """However deep: who looks for one finds it there."""
    text = EXAMPLE.read_text("utf-8")

    assert [
        each for each in sorted(_names(Settings)) if not re.search(rf"(?i)(?:\b|__){each}\b", text)
    ] == []


def test_the_example_config_shows_the_defaults() -> None:
    """What it says of a default is the default; what is an example says so."""
    given = tomllib.loads(EXAMPLE.read_text("utf-8"))
    settings = load_settings(EXAMPLE, {})
    plain = load_settings(None, {})
    examples = {
        ("kafka", "bootstrap_servers"),
        ("kafka", "topics"),
        ("clickhouse", "url"),
        ("requests", "team_lanes"),
        ("requests", "task_lanes"),
        ("validation", "tasks"),
    }

    sections = [
        "kafka",
        "clickhouse",
        "requests",
        "router",
        "caller",
        "retries",
        "health",
        "reload",
        "validator",
        "validation",
        "web",
    ]
    for section in sections:
        for name in given[section]:
            if (section, name) not in examples:
                shown, default = _of(settings, section, name), _of(plain, section, name)
                assert default == shown, f"{section}.{name}"


def test_the_example_routes_show_the_defaults() -> None:
    """Whoever copies the section changes nothing by it."""
    shown = load_settings(EXAMPLE, {}).routes.for_task("general")

    assert shown.model_copy(update={"weights": {}}) == TaskRoute()


def _names(group: type[BaseModel]) -> set[str]:
    """The settings of a group and of all groups within it, as the file writes them."""
    names: set[str] = set()
    for name, field in group.model_fields.items():
        kinds, inner = [field.annotation], []
        while kinds:
            kind = kinds.pop()
            kinds += get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                inner.append(kind)
        for each in inner:
            names |= _names(each)
        if not inner:
            names.add(field.alias or name)
    return names


def _of(settings: Settings, section: str, name: str) -> object:
    group = getattr(settings, section)
    assert isinstance(group, BaseModel)
    return getattr(group, name)


def test_the_example_environment_names_only_variables_that_are_read() -> None:
    """Each `MILLRACE_SECTION__KEY` of it is a setting."""
    names = re.findall(r"^#(MILLRACE_\w+__\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert names

    for name in names:
        section, key = name.removeprefix("MILLRACE_").lower().split("__")
        group = Settings.model_fields[section].annotation
        assert group is not None
        assert key in group.model_fields
