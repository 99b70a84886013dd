"""The page on validation says what happens."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from millrace.agents.json_schema import compile_schema
from millrace.agents.validate_output import ValidateOutput
from millrace.agents.validation.find_json import FIDELITY, FoundJson, find_json
from millrace.agents.validation.policy import ValidationPolicy
from millrace.agents.validation.text_language import LANGUAGES
from millrace.agents.validation.validators import BUILT_IN, Answer
from millrace.schemas.request import Request

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "validation.md").read_text("utf-8")
SCHEMA = json.loads(re.findall(r"The schema is `(.*?)`\.", PAGE)[0])


def blocks(language: str) -> list[str]:
    """The page's blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("line", blocks("jsonl")[0].splitlines())
def test_answers_are_read_as_the_page_says(line: str) -> None:
    """By the step that it names, to the value that it shows."""
    example = json.loads(line)

    found = find_json(example["answer"], compile_schema(SCHEMA), reach="lines", complete=True)
    assert example["step"] == (found.how if isinstance(found, FoundJson) else None)
    assert example.get("data") == (found.data if isinstance(found, FoundJson) else None)


def test_the_steps_cost_what_the_page_says() -> None:
    """Each with its score."""
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE, re.MULTILINE))

    assert {name: float(score) for name, score in rows.items()} == FIDELITY


def test_the_page_names_every_validator_and_language() -> None:
    """And none that there is not."""
    assert set(re.findall(r"^\| `(\w+)` \| an? .*\|$", PAGE, re.MULTILINE)) >= set(BUILT_IN) - {
        "no_placeholders"
    }
    assert all(f"`{name}`" in PAGE for name in BUILT_IN)
    listed = re.findall(r"words, for\n(.*?);", PAGE)[0].replace(" and ", ", ")
    assert set(listed.split(", ")) == LANGUAGES


def test_the_request_and_the_config_are_valid() -> None:
    """They can be copied."""
    (request,) = blocks("json")
    config, _ = blocks("toml")
    policy = ValidationPolicy.model_validate(tomllib.loads(config)["validation"])

    assert Request.decode(request.encode()).output.max_repairs == 2
    assert policy.for_task("summarization").min_score == 0.5
    assert policy.for_task("summarization").max_repairs == 1
    assert policy.named_validators <= set(BUILT_IN)


def test_the_validator_on_the_page_works() -> None:
    """As it stands there."""
    names: dict[str, object] = {}
    exec(blocks("python")[0], names)  # noqa: S102 (our own page)
    house_style = names["house_style"]
    assert callable(house_style)

    assert house_style(Answer("quiet", None, "text", "stop", "general")) is None
    check = ValidateOutput(policy=ValidationPolicy(), validators={"house_style": house_style})
    shouting = Request.model_validate(
        {"prompt": "p", "output": {"validators": ["house_style"]}}
    ).output
    found = check(shouting, "DO NOT SHOUT", "stop", task="general")
    assert "shouts 1 times" in repr(found)
