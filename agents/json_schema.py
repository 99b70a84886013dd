"""Compiles the JSON Schemas that requests bring, and bounds the work they can cause.

A schema comes from a stranger and is applied to text from a model, so nothing is fetched over
the network, references must lead to a schema within the schema, its size is bounded, and so is
the number of references followed in one validation (nested references can double the work with
each level). Regular expressions are matched in linear time. `format` only annotates.
"""

from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
from jsonschema import Draft7Validator, Draft202012Validator, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.jsonschema import DRAFT7, DRAFT202012

from millrace.agents.canonical import canonical
from millrace.agents.linear_patterns import (
    additional_properties,
    check_patterns,
    pattern,
    pattern_properties,
)
from millrace.agents.schema_references import check_references, refused
from millrace.schemas.record import canonical_json

MAX_SCHEMA_BYTES = 65_536
MAX_REFERENCES_FOLLOWED = 20_000
"""In one validation; a tenth of a second or so."""

_SCALARS = ("string", "integer", "number", "boolean", "null")
_CACHED_SCHEMAS = 256
_SHOWN_PROBLEMS = 5
_SHOWN_CHARS = 200

_TOLD_WITH_THEIR_VALUE = {
    "type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minLength", "maxLength", "minItems", "maxItems",
    "minProperties", "maxProperties", "pattern",
}  # fmt: skip

_references_left: ContextVar[list[int]] = ContextVar("references_left")


class _TooMuchWorkError(Exception):
    """Ends a validation that follows too many references."""


def _reference(validator: Any, target: str, instance: Any, _schema: Any) -> Iterator[Any]:
    left = _references_left.get()
    left[0] -= 1
    if left[0] < 0:
        raise _TooMuchWorkError
    yield from validator._validate_reference(ref=target, instance=instance)  # noqa: SLF001 (the keyword's own implementation; `extend` offers no other way to count)


def _unique_items(
    validator: Any, wanted: bool, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    # The library's own compares each pair where items cannot be sorted: hours for a long list.
    if not (wanted and validator.is_type(instance, "array")):
        return
    if len({canonical(item) for item in instance}) < len(instance):
        yield ValidationError("has equal items")


_KEYWORDS = {
    "$ref": _reference,
    "$dynamicRef": _reference,
    "uniqueItems": _unique_items,
    "pattern": pattern,
    "patternProperties": pattern_properties,
    "additionalProperties": additional_properties,
}
# The stubs leave `extend` without types.
_DIALECTS: dict[str, tuple[type[Validator], type[Validator], Any]] = {
    "https://json-schema.org/draft/2020-12/schema": (
        Draft202012Validator,
        extend(Draft202012Validator, _KEYWORDS),  # type: ignore[no-untyped-call]
        DRAFT202012,
    ),
    "http://json-schema.org/draft-07/schema": (
        Draft7Validator,
        extend(
            Draft7Validator,
            {key: check for key, check in _KEYWORDS.items() if key != "$dynamicRef"},
        ),  # type: ignore[no-untyped-call]
        DRAFT7,
    ),
}
_DEFAULT_DIALECT = next(iter(_DIALECTS))


class JsonSchema:
    """A compiled schema."""

    def __init__(self, validator: Validator) -> None:
        self._validator = validator

    def flat_properties(self) -> dict[str, dict[str, Any]]:
        """The properties of an object that holds no other; empty where it is anything else.

        Each has a `type` that is no object or array, and perhaps a `pattern`.
        """
        schema: Any = self._validator.schema
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if not isinstance(properties, dict) or schema.get("type", "object") != "object":
            return {}
        if not all(_is_scalar(each) for each in properties.values()):
            return {}
        return properties

    def problems(self, value: Any) -> list[str]:
        """Say where the value breaks the schema; empty when it does not.

        Names places, keywords and what the schema wants; of the value only names of
        properties. At most five problems are named.
        """
        token = _references_left.set([MAX_REFERENCES_FOLLOWED])
        try:
            return [
                _describe(error)
                for error in islice(self._validator.iter_errors(value), _SHOWN_PROBLEMS)
            ]
        except (_TooMuchWorkError, RecursionError):
            return ["the schema's references are nested too deeply to check this answer"]
        finally:
            _references_left.reset(token)


def compile_schema(schema: dict[str, Any]) -> JsonSchema:
    """Check and compile a schema of Draft 2020-12 (the default) or Draft 7; cached.

    Raises:
        InvalidEventError: It is not a sound schema, or reaches outside itself, or is too large.
    """
    try:
        text = canonical_json(schema)
    except TypeError as error:
        raise refused("it is nested too deeply or holds a number beyond 64 bits") from error
    if len(text) > MAX_SCHEMA_BYTES:
        raise refused(f"it has {len(text)} bytes, more than {MAX_SCHEMA_BYTES}")
    return _compile(text)


@lru_cache(maxsize=_CACHED_SCHEMAS)
def _compile(text: bytes) -> JsonSchema:
    schema = orjson.loads(text)
    # The names of the dialect and of the schema itself are taken off: with them, the library
    # would go on with its own validator at each reference.
    name = schema.pop("$schema", _DEFAULT_DIALECT)
    schema.pop("$id", None)
    dialect = _DIALECTS.get(name.rstrip("#")) if isinstance(name, str) else None
    if dialect is None:
        raise refused(f"its $schema must be one of {', '.join(_DIALECTS)}")
    stock, counting, specification = dialect
    try:
        stock.check_schema(schema)
        resource = specification.create_resource(schema)
        check_references(resource)
        check_patterns(resource)
    except SchemaError as error:
        raise refused(f"at {_place(error)}: breaks {error.validator!r}") from error
    except RecursionError as error:
        raise refused("it is nested too deeply") from error
    return JsonSchema(counting(schema, registry=Registry()))


def _is_scalar(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") in _SCALARS


def _describe(error: ValidationError) -> str:
    keyword: Any = error.validator
    wanted: Any = error.validator_value
    problem = f"breaks {keyword!r}"
    if keyword == "required" and isinstance(error.instance, dict):
        missing = [name for name in wanted if name not in error.instance]
        problem = f"lacks {', '.join(map(repr, missing))}"
    elif keyword == "additionalProperties" and wanted is False:
        problem = "has properties that the schema does not name"
    elif keyword in _TOLD_WITH_THEIR_VALUE:
        problem = f"must keep {keyword} {wanted!r}"
    elif keyword is None:
        problem = "holds what is not allowed"
    return f"{_place(error)} {problem}"[: 2 * _SHOWN_CHARS]


def _place(error: ValidationError | SchemaError) -> str:
    return ".".join(map(str, error.absolute_path))[:_SHOWN_CHARS] or "the top"
