"""Values made for JSON Schemas."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from millrace.providers.simulator.json_sample import sample
from millrace.providers.simulator.tokens import MARK

_TEMPLATES = Path(__file__).parents[3] / "prompts" / "templates"

_names = st.sampled_from(["id", "summary", "severity_level", "lineCount", "confidence", "tags"])
_leaves: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.fixed_dictionaries({"enum": st.lists(st.integers() | st.text(), min_size=1)}),
    st.fixed_dictionaries({"const": st.integers() | st.text() | st.none()}),
    st.builds(
        lambda low, extra: {"type": "string", "minLength": low, "maxLength": low + extra},
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    st.builds(
        lambda kind, low, span: {"type": kind, "minimum": low, "maximum": low + span},
        st.sampled_from(["integer", "number"]),
        st.integers(-1000, 1000),
        st.integers(0, 50),
    ),
    st.builds(
        lambda kind, low, span: {
            "type": kind,
            "exclusiveMinimum": low,
            "exclusiveMaximum": low + span,
        },
        st.sampled_from(["integer", "number"]),
        st.integers(-1000, 1000),
        st.integers(2, 50),
    ),
    st.builds(
        lambda step, low: {"type": "integer", "multipleOf": step, "minimum": low},
        st.integers(1, 9),
        st.integers(-50, 50),
    ),
    st.builds(lambda bound: {"type": "number", "maximum": bound}, st.integers(-50, 50)),
    st.sampled_from(["date-time", "date", "email", "uuid", "ipv4", "uri"]).map(
        lambda name: {"type": "string", "format": name}
    ),
    st.just({"type": ["string", "null"]}),
)


def _nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def as_object(properties: dict[str, Any], closed: bool, every: bool) -> dict[str, Any]:
        required = list(properties) if every else list(properties)[:1]
        schema = {"type": "object", "properties": properties, "required": required}
        return {**schema, "additionalProperties": False} if closed else schema

    return st.one_of(
        st.builds(
            as_object, st.dictionaries(_names, inner, max_size=4), st.booleans(), st.booleans()
        ),
        st.builds(
            lambda items, low, extra: {
                "type": "array",
                "items": items,
                "minItems": low,
                "maxItems": low + extra,
            },
            inner,
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
    )


_schemas = st.recursive(_leaves, _nested, max_leaves=8)


@settings(max_examples=150)
@given(_schemas, st.integers(0, 2**32))
def test_a_sample_fits_its_schema(schema: dict[str, Any], seed: int) -> None:
    """Whatever is nested in what."""
    made = sample(schema, chance=random.Random(seed))

    assert [error.message for error in Draft202012Validator(schema).iter_errors(made)] == []


@pytest.mark.parametrize("path", sorted(_TEMPLATES.glob("*.j2")), ids=lambda path: path.stem)
def test_the_schemas_of_our_templates_are_met(path: Path) -> None:
    """The answers that the demo needs."""
    output = yaml.safe_load(path.read_text().split("---")[1]).get("output") or {}
    schema = output.get("schema", {"type": "object"})

    for seed in range(20):
        Draft202012Validator(schema).validate(sample(schema, chance=random.Random(seed)))


_TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{3}$"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "children"],
        }
    },
}


@pytest.mark.parametrize(
    "schema",
    [
        _TREE,
        {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["a", "b"]}]},
        {"oneOf": [{"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}]},
        {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3},
        {"type": "array", "prefixItems": [{"const": 1}, {"const": "x"}], "items": False},
        {"type": "object", "minProperties": 2, "maxProperties": 3},
        {"minimum": 3},
        {},
    ],
)
def test_less_common_words_of_json_schema_are_known(schema: dict[str, Any]) -> None:
    """References, combinations, patterns, tuples."""
    for seed in range(20):
        Draft202012Validator(schema).validate(sample(schema, chance=random.Random(seed)))


def test_upper_case_types_are_read() -> None:
    """Gemini's response schemas write them so."""
    made = sample(
        {"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": 1}, chance=random.Random(1)
    )

    assert all(isinstance(item, int) for item in made)


def test_the_first_free_text_bears_the_mark() -> None:
    """Once, and never where it would break the schema."""
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["x"]}, "a": {"type": "string"}, "b": {"type": "string"}},
    }

    made = sample(schema, chance=random.Random(1))

    assert made["kind"] == "x"
    assert made["a"].startswith(MARK)
    assert MARK not in made["b"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "https://example.com/schema"},
        {"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]},
        {"type": "array", "minItems": 10**12, "items": {"type": "null"}},
        {"type": "string", "minLength": 10**12},
        {"type": "string", "pattern": "("},
        {"allOf": [True, 3]},
        {"type": "martian"},
    ],
)
def test_an_impossible_schema_ends_in_some_value(schema: dict[str, Any]) -> None:
    """No endless work, no crash: the answer is then checked by who asked."""
    sample(schema, chance=random.Random(1))
