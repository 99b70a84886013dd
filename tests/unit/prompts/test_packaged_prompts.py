"""The templates that come with Millrace, rendered, letter by letter."""

import os
from pathlib import Path
from typing import Any, get_args

import pytest

from millrace.prompts.library import PromptLibrary
from millrace.prompts.template import PromptTemplate, RenderedPrompt
from millrace.schemas.vocabulary import TaskType

GOLDEN = Path(__file__).parent / "golden"
LIBRARY = PromptLibrary.load()

FULL: dict[str, dict[str, Any]] = {
    "bug_fixing": {
        "code": "def mean(xs):\n    return sum(xs) / len(xs)\n",
        "problem": "Fails for an empty list.",
        "expected": "Return None.",
        "error": "ZeroDivisionError: division by zero",
        "language": "Python 3.11",
    },
    "code_generation": {
        "requirement": "Parse a duration such as 1h30m into seconds.",
        "language": "Python 3.11",
        "existing_code": "UNITS = {'h': 3600, 'm': 60}",
        "constraints": ["no dependencies", "raise ValueError on bad input"],
        "include_tests": True,
    },
    "code_review": {
        "code": "query = f'select * from t where id = {id}'",
        "language": "Python",
        "purpose": "Look an order up.",
        "guidelines": ["SQL takes bound parameters"],
        "focus": ["security", "correctness"],
    },
    "data_interpretation": {
        "data": "day,errors\nMon,3\nTue,41\n",
        "question": "Did errors rise?",
        "columns": {"errors": "failed requests", "day": ["week", 48]},
        "background": "Gateway logs.",
    },
    "documentation_generation": {
        "code": "def area(r): return 3.14159 * r * r",
        "kind": "docstrings",
        "audience": "new colleagues",
        "language": "Python",
        "notes": "Radius in metres.",
    },
    "error_diagnosis": {
        "error": "KeyError: 'id'",
        "code": "return row['id']",
        "environment": {"python": "3.11", "workers": 4},
        "recent_changes": "Column renamed to order_id.",
        "tried": ["restart"],
    },
    "general": {
        "instruction": "Explain backpressure.",
        "background": "Queues are bounded here.",
        "audience": "product managers",
    },
    "reasoning": {
        "question": "Which train arrives first?",
        "facts": ["A leaves at 9:00 at 80 km/h", "B leaves at 9:30 at 120 km/h"],
        "answer_format": "A or B",
        "show_work": False,
    },
    "requirement_analysis": {
        "requirement": "Users should be able to export quickly.",
        "context": "A reporting product.",
        "stakeholders": ["support", "legal"],
    },
    "summarization": {
        "document": "# Minutes\n```\nlog\n```\nShip on Friday.",
        "audience": "the board",
        "focus": "the date",
        "max_words": 40,
        "bullets": True,
    },
    "workflow_generation": {
        "goal": "Restore the backup and switch traffic over.",
        "actions": ["restore", {"name": "switch", "needs": ["target"]}],
        "constraints": ["no downtime"],
        "inputs": {"backup": "s3://b/1", "size_gb": 40},
        "max_steps": 6,
    },
}
TEMPLATES = [pytest.param(template, id=template.reference) for template in LIBRARY.templates]


def as_text(rendered: RenderedPrompt) -> str:
    return "".join(f"=== {message.role}\n{message.text()}\n" for message in rendered.messages)


def required_only(template: PromptTemplate) -> dict[str, Any]:
    full = FULL[template.ref.name]
    return {name: full[name] for name, spec in template.head.variables.items() if spec.required}


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("extent", ["full", "required"])
def test_a_packaged_template_renders_as_recorded(template: PromptTemplate, extent: str) -> None:
    """Any change of a prompt shows in its golden file; UPDATE_GOLDEN=1 writes them anew."""
    full = extent == "full"
    variables = FULL[template.ref.name] if full else required_only(template)
    file = GOLDEN / f"{template.reference}.{extent}.txt"

    text = as_text(template.render(variables))

    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_full_case_covers_every_variable(template: PromptTemplate) -> None:
    """No variable of a packaged template goes untested."""
    assert FULL[template.ref.name].keys() == template.head.variables.keys()


def test_there_is_a_template_for_each_task() -> None:
    """A task's template bears the task's name."""
    assert {t.ref.name: t.head.task for t in LIBRARY.templates} == {
        task: task for task in get_args(TaskType)
    }


@pytest.mark.parametrize("template", TEMPLATES)
def test_schemas_are_as_strict_structured_output_wants_them(template: PromptTemplate) -> None:
    """Every object is closed and requires all of its properties."""
    schema = template.head.output.json_schema if template.head.output else None
    waiting = [schema] if schema else []
    while waiting:
        node = waiting.pop()
        waiting += [
            *node.get("properties", {}).values(),
            *([node["items"]] if "items" in node else []),
        ]
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert sorted(node["required"]) == sorted(node["properties"])


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_property_of_a_schema_is_asked_for_in_the_prompt(template: PromptTemplate) -> None:
    """Models without structured output learn the form from the text."""
    schema = template.head.output.json_schema if template.head.output else None
    text = as_text(template.render(FULL[template.ref.name]))

    for name in (schema or {}).get("required", []):
        assert f'"{name}"' in text
