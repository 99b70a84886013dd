"""Reads the fields of a schema out of a text that is no JSON: the last resort.

Only for a flat object: a field is taken from its one line `name: value`, or, where it has a
`pattern`, from the one place in the text that matches it. All that the schema requires must be
found, and what was found must fit the schema.
"""

import re
from typing import Any

import orjson
import re2

from millrace.agents.json_schema import JsonSchema
from millrace.agents.linear_patterns import compiled

MAX_READ_CHARS = 100_000
_MAX_FIELDS = 50

_LINE = re.compile(
    r"^[ \t]{0,20}(?:[-*+>][ \t]{1,4})?[*_`\"']{0,4}([A-Za-z][\w .-]{0,80}?)[*_`\"']{0,4}[ \t]{0,4}"
    r"[:=][ \t*_]{0,8}([^\n]{1,2000})$",
    re.MULTILINE,
)


def read_lines(text: str, schema: JsonSchema) -> dict[str, Any] | None:
    """The object that the text's lines give; None where they leave a doubt."""
    wanted = schema.flat_properties()
    if not wanted or len(wanted) > _MAX_FIELDS or len(text) > MAX_READ_CHARS:
        return None
    lines: dict[str, set[str]] = {}
    for found in _LINE.finditer(text):
        lines.setdefault(_folded(found[1]), set()).add(found[2].strip().strip("*_`").strip())
    fields: dict[str, Any] = {}
    for name, kinds in wanted.items():
        values = lines.get(_folded(name), set())
        if len(values) > 1:
            return None
        if values:
            fields[name] = _typed(next(iter(values)), kinds["type"])
        elif "pattern" in kinds and (match := _only_match(kinds["pattern"], text)) is not None:
            fields[name] = match
    return fields if fields and not schema.problems(fields) else None


def _folded(name: str) -> str:
    return re.sub(r"[\s_.-]+", "", name).lower()


def _typed(written: str, kind: str) -> Any:
    unquoted = written[1:-1] if len(written) > 1 and written[0] == written[-1] in "\"'" else written
    if kind == "string":
        return unquoted
    try:
        return orjson.loads(unquoted.lower() if kind in {"boolean", "null"} else unquoted)
    except orjson.JSONDecodeError:
        # The schema will say that this is not of its type.
        return unquoted


def _only_match(pattern: str, text: str) -> str | None:
    anchored = pattern.removeprefix("^").removesuffix("$")
    try:
        matches = {found[0] for found in compiled(rf"\b(?:{anchored})\b").finditer(text)}
    except re2.error:
        # The anchors were part of something else, such as an alternative.
        return None
    matches.discard("")
    return matches.pop() if len(matches) == 1 else None
