"""Regular expressions of JSON Schemas and rules, matched in linear time.

Their patterns come from strangers, and Python's `re` can need exponential time for one such
as `(a+)+$`. RE2 cannot; in exchange it knows no look-around and no back-references, so what
uses those is refused when it is compiled.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import re2
from jsonschema import ValidationError
from referencing import Resource

from millrace.agents.schema_references import patterns, refused, subschemas
from millrace.schemas.errors import InvalidEventError

_CACHED_PATTERNS = 1024
_MEMORY_BYTES = 1 << 20


def check_rule_patterns(expressions: Iterable[str]) -> None:
    """Compile the patterns of an answer's rules.

    Raises:
        InvalidEventError: One cannot be compiled.
    """
    for expression in expressions:
        try:
            compiled(expression)
        except re2.error as error:
            raise InvalidEventError(
                f"the rule's pattern {expression[:100]!r} cannot be used: {error}; look-around "
                "and back-references are not supported"
            ) from error


def check_patterns(root: Resource[Any]) -> None:
    """Compile every pattern of a schema.

    Raises:
        InvalidEventError: One cannot be compiled, or is used where the library would match it
            with its own engine.
    """
    schemas = list(subschemas(root))
    for expression in (each for schema in schemas for each in patterns(schema)):
        try:
            compiled(expression)
        except re2.error as error:
            raise refused(
                f"pattern {expression[:100]!r} cannot be used: {error}; look-around and "
                "back-references are not supported"
            ) from error
    patterned = any("patternProperties" in schema for schema in schemas)
    unevaluated = any("unevaluatedProperties" in schema for schema in schemas)
    if patterned and unevaluated:
        raise refused("patternProperties and unevaluatedProperties cannot be used together")


def pattern(validator: Any, wanted: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    """The keyword `pattern`."""
    if validator.is_type(instance, "string") and not matches(wanted, instance):
        yield ValidationError(f"does not match {wanted!r}")


def pattern_properties(
    validator: Any, wanted: dict[str, Any], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    """The keyword `patternProperties`."""
    if not validator.is_type(instance, "object"):
        return
    for expression, schema in wanted.items():
        for name, value in instance.items():
            if matches(expression, name):
                yield from validator.descend(value, schema, path=name, schema_path=expression)


def additional_properties(
    validator: Any, wanted: Any, instance: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    """The keyword `additionalProperties`."""
    if not validator.is_type(instance, "object"):
        return
    named = schema.get("properties", {})
    expressions = schema.get("patternProperties", {})
    extra = [
        name
        for name in instance
        if name not in named and not any(matches(each, name) for each in expressions)
    ]
    if validator.is_type(wanted, "object"):
        for name in extra:
            yield from validator.descend(instance[name], wanted, path=name)
    elif not wanted and extra:
        yield ValidationError("has properties that the schema does not name")


def matches(expression: str, text: str) -> bool:
    """Whether the expression is found in the text."""
    # A lone surrogate is no text to RE2.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return compiled(expression).search(clean) is not None


@lru_cache(maxsize=_CACHED_PATTERNS)
def compiled(expression: str) -> Any:
    """The expression, ready to be searched for.

    Raises:
        re2.error: It cannot be compiled.
    """
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False
    return re2.compile(expression, options)
