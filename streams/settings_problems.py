"""Says what is wrong with settings in the words of the config file, and what may be meant."""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_KEY = "[key]"
"""Where an error is about a key of a table, and not about its value."""
_QUOTED = re.compile(r"'([^']*)'")
_FEW = 12
_RAISED = "Value error, "


def settings_problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each problem, which begins with the setting's place; no value is quoted.

    `model` is what was to be made of the settings; its fields are what names may be.
    """
    schema = model.model_json_schema()
    found: dict[str, list[ErrorDetails]] = {}
    for item in error.errors(include_url=False):
        path = item["loc"]
        if _KEY in path:
            path = path[: path.index(_KEY)]
        found.setdefault(".".join(map(str, path)) or "settings", []).append(item)
    return [
        f"{place}: {line}"
        for place, items in found.items()
        for line in dict.fromkeys(_lines(items, schema))
    ]


def _lines(items: Sequence[ErrorDetails], schema: Mapping[str, Any]) -> list[str]:
    keys = [item for item in items if _KEY in item["loc"]]
    lines = [_described(item, schema) for item in items if item not in keys]
    if keys:
        path = keys[0]["loc"]
        expected = [name for item in keys for name in _QUOTED.findall(item["msg"])]
        lines.append(_no_such(str(path[path.index(_KEY) - 1]), expected))
    return lines


def _described(item: ErrorDetails, schema: Mapping[str, Any]) -> str:
    *table, name = item["loc"] or ("",)
    written = ".".join(map(str, item["loc"]))
    match item["type"]:
        case "extra_forbidden":
            return _no_such(str(name), _fields(schema, table))
        case "tuple_type" | "list_type" if isinstance(item["input"], Mapping):
            return f"there may be several of these: write [[{written}]] in place of [{written}]"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"this is a table of settings: write [{written}], and below it NAME = VALUE"
        case "path_type":
            return "a path is text, in quotes"
        case "literal_error" if isinstance(item["input"], str):
            return item["msg"] + _meant(item["input"], _QUOTED.findall(item["msg"]))
    return item["msg"].removeprefix(_RAISED)


def _no_such(name: str, known: Sequence[str]) -> str:
    meant = _meant(name, known)
    if not meant and 0 < len(known) <= _FEW:
        meant = f"; there are {', '.join(sorted(known))}"
    return f"there is no such setting{meant}"


def _meant(given: str, known: Sequence[str]) -> str:
    close = get_close_matches(given.lower(), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _fields(schema: Mapping[str, Any], path: Sequence[int | str]) -> list[str]:
    """The names that a table of the settings may have; none where it may have any."""
    definitions = schema.get("$defs", {})

    def whole(node: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in node:
            node = definitions[node["$ref"].rpartition("/")[2]]
        return node

    nodes = [whole(schema)]
    for part in path:
        nodes = [inner for node in nodes for inner in _inner(node, part, whole)]
    return sorted({name for node in nodes for name in node.get("properties", {})})


_Whole = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def _inner(node: Mapping[str, Any], part: int | str, whole: _Whole) -> list[Mapping[str, Any]]:
    """What lies under a name, or a place in a list; several where there is a choice."""
    if part in node.get("properties", {}):
        below = node["properties"][part]
    elif isinstance(part, int):
        below = node.get("items", {})
    else:
        below = node.get("additionalProperties") or {}
    choices = below.get("anyOf") or below.get("allOf") or [below]
    return [whole(each) for each in choices if isinstance(each, Mapping)]
