"""Makes a value that fits a JSON Schema.

Knows what answers use: objects, arrays, strings (lengths, common formats), numbers (bounds,
multiples), enum, const, local `$ref`, `allOf`, `anyOf`, `oneOf`, type lists, and Gemini's
upper-case types. A `pattern` is met where one of some common shapes fits it. What it does not
know (`not`, `if`, `patternProperties`, `contains`, `dependentRequired`) it takes no account of.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from millrace.providers.simulator.json_scalars import decimal, integer, string
from millrace.providers.simulator.tokens import MARK
from millrace.schemas.errors import RequestRefusedError

_DEPTH_OF_EXTRAS: Final = 4
"""Below this depth optional properties and array items are left out."""
_DEPTH: Final = 24
"""Below this depth a schema that demands itself is given up."""
_LONGEST: Final = 1000
"""Items or properties that are made at most, whatever the schema demands."""


def sample(schema: Mapping[str, Any], *, chance: random.Random) -> Any:
    """Make a value for a schema; the first free text in it carries the mark of simulation.

    Raises:
        RequestRefusedError: It is no JSON Schema.
    """
    try:
        return _Sampler(schema, chance).value(schema, "answer", 0)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RequestRefusedError(
            f"the JSON schema cannot be used ({type(error).__name__}): check its keywords' types"
        ) from error


class _Sampler:
    """One walk through a schema."""

    def __init__(self, root: Mapping[str, Any], chance: random.Random) -> None:
        self._root = root
        self._chance = chance
        self._marked = False

    def value(  # noqa: PLR0911 -- one for each kind of value
        self, schema: Any, name: str, depth: int
    ) -> Any:
        if not isinstance(schema, Mapping) or depth > _DEPTH:
            return None
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._chance.choice(list(schema["enum"]))
        kind = self._kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind == "string":
            return self._string(schema, name)
        if kind == "integer":
            return integer(schema, self._chance)
        if kind == "number":
            return decimal(schema, name, self._chance)
        return self._chance.random() < 0.5 if kind == "boolean" else None  # noqa: PLR2004 -- a coin

    def _resolved(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        for _ in range(_DEPTH):
            if "$ref" in schema:
                target = self._target(schema["$ref"])
                schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
            elif schema.get("allOf"):
                merged = {key: value for key, value in schema.items() if key != "allOf"}
                for part in schema["allOf"]:
                    merged = _both(merged, part)
                schema = merged
            elif schema.get("anyOf") or schema.get("oneOf"):
                word = "anyOf" if schema.get("anyOf") else "oneOf"
                rest = {key: value for key, value in schema.items() if key != word}
                schema = _both(rest, self._branch(schema[word], depth))
            else:
                break
        return schema

    def _branch(self, branches: Sequence[Any], depth: int) -> Any:
        # Deep down, a branch that ends the recursion is worth more than variety.
        if depth > _DEPTH_OF_EXTRAS:
            return min(
                branches, key=lambda branch: isinstance(branch, Mapping) and "$ref" in branch
            )
        return self._chance.choice(list(branches))

    def _target(self, reference: Any) -> Mapping[str, Any]:
        found: Any = self._root
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        for part in reference[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def _kind(self, schema: Mapping[str, Any]) -> str:
        kind = schema.get("type")
        if isinstance(kind, Sequence) and not isinstance(kind, str):
            kinds = [str(item).lower() for item in kind]
            kind = next((item for item in kinds if item != "null"), "null")
        if isinstance(kind, str):
            return kind.lower()
        if "properties" in schema or "required" in schema:
            return "object"
        if "items" in schema or "prefixItems" in schema:
            return "array"
        if "minimum" in schema or "maximum" in schema:
            return "number"
        return "string"

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = set(schema.get("required", ()))
        made = {
            key: self.value(part, key, depth + 1)
            for key, part in properties.items()
            if key in required or depth < _DEPTH_OF_EXTRAS
        }
        others = schema.get("additionalProperties", {})
        for key in sorted(required - made.keys()):
            made[key] = self.value(others if isinstance(others, Mapping) else {}, key, depth + 1)
        for spare in range(min(int(schema.get("minProperties", 0)) - len(made), _LONGEST)):
            key = f"further_{spare + 1}"
            made[key] = self.value(others if isinstance(others, Mapping) else {}, key, depth + 1)
        most = schema.get("maxProperties")
        for key in [key for key in reversed(made) if key not in required]:
            if most is None or len(made) <= most:
                break
            del made[key]
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        least = min(int(schema.get("minItems", 0)), _LONGEST)
        usual = 0 if depth >= _DEPTH_OF_EXTRAS else 1 + self._chance.randrange(2)
        count = min(max(least, usual), int(schema.get("maxItems", max(least, usual))))
        first = list(schema.get("prefixItems", ()))
        items = schema.get("items", {})
        if items is False:
            count = min(count, len(first))
        made: list[Any] = []
        for turn in range(count * 8):
            if len(made) == count:
                break
            part = first[len(made)] if len(made) < len(first) else items
            label = f"item {turn + 1}"
            value = self.value(part if isinstance(part, Mapping) else {}, label, depth + 1)
            if not (schema.get("uniqueItems") and value in made):
                made.append(value)
        return made

    def _string(self, schema: Mapping[str, Any], name: str) -> str:
        text = string(schema, name, self._chance, marked=not self._marked)
        self._marked = self._marked or text.startswith(MARK)
        return text


def _both(left: Mapping[str, Any], right: Any) -> dict[str, Any]:
    if not isinstance(right, Mapping):
        return dict(left)
    merged = {**left, **right}
    if "properties" in left and "properties" in right:
        merged["properties"] = {**left["properties"], **right["properties"]}
    if "required" in left and "required" in right:
        merged["required"] = [*left["required"], *right["required"]]
    return merged
