"""Schemas from strangers: checked before use, confined to themselves, bounded in work."""

from typing import Any

import pytest

from millrace.agents.json_schema import MAX_SCHEMA_BYTES, compile_schema
from millrace.agents.schema_references import MAX_PATTERN_CHARS
from millrace.schemas.errors import InvalidEventError

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"


def doubling(levels: int, leaf: str = "string") -> dict[str, Any]:
    """Each level refers to the next one twice."""
    steps = {
        f"s{level}": {"allOf": [{"$ref": f"#/$defs/s{level + 1}"}] * 2} for level in range(levels)
    }
    return {"$ref": "#/$defs/s0", "$defs": {**steps, f"s{levels}": {"type": leaf}}}


@pytest.mark.parametrize(
    ("schema", "value", "problems"),
    [
        ({}, 1, []),
        ({"type": "integer"}, 1, []),
        ({"type": "integer"}, "x", ["the top must keep type 'integer'"]),
        (
            {"properties": {"a": {"items": {"enum": [1, 2]}}}},
            {"a": [1, 3]},
            ["a.1 must keep enum [1, 2]"],
        ),
        ({"required": ["a", "b"]}, {"b": 1}, ["the top lacks 'a'"]),
        ({"properties": {"a": False}}, {"a": 1}, ["the top holds what is not allowed"]),
        ({"pattern": "^x"}, "secret", ["the top must keep pattern '^x'"]),
        ({"uniqueItems": True}, [{"a": 1}, {"a": 1.0}], ["the top breaks 'uniqueItems'"]),
        ({"uniqueItems": True}, [1, True, "1", [1]], []),
        ({"$schema": DRAFT_7, "items": [{"type": "string"}]}, [1], ["0 must keep type 'string'"]),
        ({"$schema": DRAFT_2020, "prefixItems": [{"type": "null"}]}, [None], []),
        ({"$id": "https://example.com/s", "type": "null"}, None, []),
        ({"$defs": {"a": {"type": "null"}}, "$ref": "#/$defs/a"}, None, []),
        ({"definitions": {"a": {"type": "null"}}, "$ref": "#/definitions/a"}, None, []),
        ({"$defs": {"a": {"$anchor": "x", "type": "null"}}, "$ref": "#x"}, None, []),
        ({"properties": {"$ref": {"type": "null"}}}, {"$ref": None}, []),
        ({"enum": [{"$ref": "https://example.com"}]}, {"$ref": "https://example.com"}, []),
        (
            {"type": ["object", "null"], "additionalProperties": {"$ref": "#"}},
            {"a": {"b": None}},
            [],
        ),
    ],
)
def test_values_are_checked(schema: dict[str, Any], value: Any, problems: list[str]) -> None:
    """Both drafts, with problems that name places and demands."""
    assert compile_schema(schema).problems(value) == problems


def test_problems_do_not_quote_the_value() -> None:
    """An answer may hold what must not appear in an error."""
    schema = {"additionalProperties": {"type": "integer", "maximum": 3, "pattern": "x"}}

    problems = compile_schema(schema).problems({"a": "secret", "b": 4711})

    assert len(problems) == 3
    assert "secret" not in str(problems)
    assert "4711" not in str(problems)


def test_few_problems_are_named() -> None:
    """A long wrong answer does not make a long error."""
    assert len(compile_schema({"items": {"type": "null"}}).problems([1] * 1_000)) == 5


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "strange"}, "at type"),
        ({"properties": {"a": {"minimum": "x"}}}, "at properties.a.minimum"),
        ({"pattern": "("}, "at pattern"),
        ({"patternProperties": {"(": {}}}, "breaks"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, r"\$schema must be one of"),
        ({"$schema": 5}, r"\$schema must be one of"),
        ({"$ref": "https://example.com/s.json"}, "leads outside"),
        ({"$ref": "other.json#/a"}, "leads outside"),
        ({"$ref": "file:///etc/passwd"}, "leads outside"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "does not lead to a schema"),
        ({"title": "x", "$ref": "#/title"}, "does not lead to a schema"),
        ({"const": {"type": 5}, "not": {"$ref": "#/const"}}, "does not lead to a schema"),
        ({"$defs": {"a": {"$id": "x"}}}, "only at its top"),
        ({"$defs": {"a": {"$schema": DRAFT_7}}}, "only at its top"),
        ({"pattern": "a" * (MAX_PATTERN_CHARS + 1)}, "more than 512 characters"),
        ({"patternProperties": {"a" * (MAX_PATTERN_CHARS + 1): {}}}, "more than 512 characters"),
        ({"description": "x" * MAX_SCHEMA_BYTES}, "more than 65536"),
        ({"maximum": 2**70}, "beyond 64 bits"),
    ],
)
def test_an_unsound_schema_is_refused(schema: dict[str, Any], complaint: str) -> None:
    """It is the requester's mistake, and is told to the requester."""
    with pytest.raises(InvalidEventError, match=complaint) as caught:
        compile_schema(schema)

    assert caught.value.code == "invalid_request"
    assert caught.value.message.startswith("output.schema cannot be used: ")


def test_a_deeply_nested_schema_is_refused() -> None:
    """Depth costs stack."""
    schema: dict[str, Any] = {}
    for _ in range(400):
        schema = {"not": schema}

    with pytest.raises(InvalidEventError, match="nested too deeply"):
        compile_schema(schema)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling(60), "x"),
        ({"$schema": DRAFT_2020, **doubling(60)}, "x"),
        ({**doubling(60, "object"), "unevaluatedProperties": False}, {}),
        ({"$ref": "#"}, 1),
        ({"$schema": DRAFT_2020, "$ref": "#"}, 1),
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, 1),
    ],
)
def test_references_that_multiply_or_never_end_are_cut_short(
    schema: dict[str, Any], value: Any
) -> None:
    """Two to the power of sixty steps are not taken, whatever the schema says."""
    assert compile_schema(schema).problems(value) == [
        "the schema's references are nested too deeply to check this answer"
    ]


def test_one_costly_validation_does_not_spoil_the_next() -> None:
    """Each validation has a budget of its own."""
    schema = compile_schema({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "null"}}})

    assert schema.problems([None] * 15_000) == []
    assert schema.problems([None] * 15_000) == []


def test_a_schema_is_compiled_once() -> None:
    """Equal schemas share their validator, whatever the order of their keys."""
    one = compile_schema({"type": "object", "title": "compiled once"})

    assert compile_schema({"title": "compiled once", "type": "object"}) is one
