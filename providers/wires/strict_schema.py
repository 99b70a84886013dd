"""Whether OpenAI takes a JSON Schema, and whether its strict mode does.

Source: OpenAI's guide to structured outputs. A schema that it does not take is refused with HTTP
400 before anything is generated, so what is not certain to be taken counts as not taken.
"""

from collections.abc import Mapping
from typing import Any

_KEYWORDS = frozenset({
    "type", "title", "description", "enum", "const", "properties", "required",
    "additionalProperties", "items", "anyOf", "$ref", "$defs", "$schema",
})  # fmt: skip
"""Newer models take some more, such as `pattern`; which ones do is not to be told by name."""
_TYPES = frozenset({"string", "number", "integer", "boolean", "null", "object", "array"})
_MAX_DEPTH = 5
_MAX_PROPERTIES = 100
_MAX_ENUM_VALUES = 500


def describes_object(schema: Mapping[str, Any]) -> bool:
    """Whether the schema is one of an object by its own word, which OpenAI demands in any mode."""
    return schema.get("type") == "object"


def is_strict(schema: Mapping[str, Any]) -> bool:
    """Whether the schema is within the subset of strict mode, and small enough for it."""
    left = [_MAX_PROPERTIES, _MAX_ENUM_VALUES]
    return describes_object(schema) and _fits(schema, depth=1, left=left)


def _fits(schema: Any, *, depth: int, left: list[int]) -> bool:
    if not isinstance(schema, Mapping) or not schema.keys() <= _KEYWORDS or depth > _MAX_DEPTH:
        return False
    if "$ref" in schema:
        target = schema["$ref"]
        return isinstance(target, str) and target.startswith("#") and len(schema) == 1
    left[1] -= len(schema.get("enum", ()))
    inner = [*schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    types = _types(schema)
    if "object" in types:
        if not _is_closed(schema):
            return False
        left[0] -= len(schema["properties"])
        inner += schema["properties"].values()
    if "array" in types:
        inner.append(schema.get("items"))
    return (
        min(left) >= 0
        and (types <= _TYPES if types else "anyOf" in schema)
        and all(_fits(each, depth=depth + 1, left=left) for each in inner)
    )


def _types(schema: Mapping[str, Any]) -> set[str]:
    told = schema.get("type", ())
    return {told} if isinstance(told, str) else set(told)


def _is_closed(schema: Mapping[str, Any]) -> bool:
    """Whether the object has all of its named fields and no other."""
    properties = schema.get("properties")
    return (
        isinstance(properties, Mapping)
        and schema.get("additionalProperties") is False
        and set(schema.get("required", ())) == properties.keys()
    )
