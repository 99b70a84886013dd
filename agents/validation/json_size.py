"""Bounds how deep and how large an answer's JSON may be."""

from typing import Any

from millrace.agents.validation.verdict import Problem

MAX_JSON_DEPTH = 100
"""Of an answer. Readers of the terminal record give up at about twice this."""

MAX_JSON_VALUES = 50_000
"""Of an answer: a schema is applied to each, which takes some ten microseconds."""


def size_problem(text: str, data: Any) -> Problem | None:
    """What is too much of the value that a text was parsed to; None for nothing."""
    brackets = text.count("{") + text.count("[")
    if brackets <= MAX_JSON_DEPTH and text.count(",") + brackets < MAX_JSON_VALUES:
        return None
    level, values = [data], 1
    for _ in range(MAX_JSON_DEPTH + 1):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        values += len(level)
        if values > MAX_JSON_VALUES:
            return Problem(
                "json",
                f"the answer's JSON holds more than {MAX_JSON_VALUES} values",
                "Give fewer.",
            )
        if not level:
            return None
    return Problem(
        "json",
        f"the answer's JSON is nested deeper than {MAX_JSON_DEPTH} levels",
        "Give a flatter value.",
    )
