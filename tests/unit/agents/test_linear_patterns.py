"""Patterns of JSON Schemas."""

import time

import pytest

from millrace.agents.json_schema import compile_schema
from millrace.schemas.errors import InvalidEventError


def test_a_pattern_that_would_hang_a_backtracking_engine_is_matched_at_once() -> None:
    """`(a+)+$` against many a's and a b needs 2^n steps when backtracking."""
    schema = compile_schema({"type": "string", "pattern": "^(a+)+$"})

    began = time.process_time()
    problems = schema.problems("a" * 5_000 + "b")

    assert problems
    assert time.process_time() - began < 1


@pytest.mark.parametrize("expression", [r"(?=a)b", r"(a)\1", "("])
def test_a_pattern_that_cannot_be_matched_in_linear_time_is_refused(expression: str) -> None:
    """Look-around, back-references and broken expressions are named when compiled."""
    with pytest.raises(InvalidEventError, match="pattern"):
        compile_schema({"properties": {"a": {"pattern": expression}}})


def test_a_property_called_pattern_is_no_pattern() -> None:
    """Only keywords count, not the names of properties or constants."""
    schema = compile_schema({"properties": {"pattern": {"const": "(?=a)"}}})

    assert schema.problems({"pattern": "(?=a)"}) == []


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({"x_a": 1}, True),
        ({"x_a": "1"}, False),
        ({"y": 1}, False),
        ({"named": None}, True),
        ({"named": None, "x_b": 2, "z": 3}, False),
    ],
)
def test_pattern_properties_and_additional_properties_work_together(
    value: dict[str, object], fits: bool
) -> None:
    """What matches a pattern is checked by its schema, and is not additional."""
    schema = compile_schema(
        {
            "properties": {"named": {}},
            "patternProperties": {"^x_": {"type": "integer"}},
            "additionalProperties": False,
        }
    )

    assert (schema.problems(value) == []) is fits


def test_additional_properties_may_have_a_schema() -> None:
    """Those that nothing names are checked by it."""
    schema = compile_schema({"properties": {"a": {}}, "additionalProperties": {"type": "string"}})

    assert schema.problems({"a": 1, "b": "text"}) == []
    assert schema.problems({"b": 1}) != []
