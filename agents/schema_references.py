"""Checks that a JSON Schema stays within itself."""

from collections.abc import Iterator
from typing import Any

from referencing import Registry, Resource
from referencing.exceptions import Unresolvable

from millrace.schemas.errors import InvalidEventError

MAX_PATTERN_CHARS = 512
"""Of a regular expression in a schema."""

_SHOWN_CHARS = 200


def check_references(root: Resource[Any]) -> None:
    """Follow every reference once, without leaving the schema.

    `$schema` and `$id` are refused too: below the top they change what references mean, and the
    caller has taken off those at the top.

    Raises:
        InvalidEventError: A reference leads outside, nowhere, or to what is no schema; or a
            regular expression is too long.
    """
    schemas = list(subschemas(root))
    inside = {id(schema) for schema in schemas}
    registry: Registry[Any] = Registry()
    resolver = registry.resolver_with_root(root)
    for schema in schemas:
        for key in ("$schema", "$id"):
            if key in schema:
                raise refused(f"{key!r} may stand only at its top")
        if any(len(pattern) > MAX_PATTERN_CHARS for pattern in patterns(schema)):
            raise refused(f"a pattern has more than {MAX_PATTERN_CHARS} characters")
        for target in (schema[key] for key in ("$ref", "$dynamicRef") if key in schema):
            shown = f"the reference {target[:_SHOWN_CHARS]!r}"
            if not target.startswith("#"):
                raise refused(f"{shown} leads outside: use '#/$defs/…'")
            if not _leads_inside(target, resolver, inside):
                raise refused(f"{shown} does not lead to a schema")


def refused(why: str) -> InvalidEventError:
    """The error for a schema that cannot be used."""
    return InvalidEventError(f"output.schema cannot be used: {why}")


def _leads_inside(target: str, resolver: Any, inside: set[int]) -> bool:
    try:
        contents = resolver.lookup(target).contents
    except Unresolvable:
        return False
    return isinstance(contents, bool) or id(contents) in inside


def subschemas(root: Resource[Any]) -> Iterator[dict[str, Any]]:
    """Every schema within the schema, itself included."""
    waiting = [root]
    while waiting:
        resource = waiting.pop()
        if isinstance(resource.contents, dict):
            yield resource.contents
            waiting.extend(resource.subresources())


def patterns(schema: dict[str, Any]) -> Iterator[str]:
    """The regular expressions that stand in a schema itself."""
    if "pattern" in schema:
        yield schema["pattern"]
    yield from schema.get("patternProperties", ())
