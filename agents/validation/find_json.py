"""Finds the one JSON value that an answer gives, however it is wrapped.

The steps, from the surest on: the whole text; a fenced block; a value within prose; one whose
syntax is mended; lines of `key: value`. Where an answer holds several values, the schema may
tell which is meant; where it does not, none is. Nothing within a broken value is ever taken for
the answer.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

from millrace.agents.json_schema import JsonSchema
from millrace.agents.validation.fences import fenced_blocks
from millrace.agents.validation.mend_json import mend_json
from millrace.agents.validation.read_lines import read_lines

Extraction = Literal["strict", "fenced", "embedded", "mended", "lines"]
"""How far to go to find JSON in an answer; each includes those before it."""

FIDELITY: dict[Extraction, float] = {
    "strict": 1.0, "fenced": 0.95, "embedded": 0.9, "mended": 0.7, "lines": 0.5,
}  # fmt: skip
"""The score for what was found so."""

_STEPS: tuple[Extraction, ...] = get_args(Extraction)
_MAX_BLOCKS = 200
_MAX_TRIES = 1_000
_MAX_WORK_CHARS = 4_000_000
_JSON_NAMES = {"json", "jsonc", "json5", "javascript", "js"}
_THOUGHTS_END = "</think>"
_STRONG = re.compile(
    r"""\{\s{0,99}(?:["'}]|//|[A-Za-z_]\w{0,99}\s{0,9}:)|\[\s{0,99}[\[{"'\]]|(\[\s{0,99}[-\dtfnTFN])"""
)
"""Where a JSON object or array seems to begin; the group: where a footnote's mark may, too."""


@dataclass(frozen=True, slots=True)
class FoundJson:
    """A JSON value, and how it was found."""

    text: str
    data: Any
    how: Extraction = "strict"
    note: str | None = None


@dataclass(frozen=True, slots=True)
class NoJson:
    """Why none was."""

    why: str


@dataclass(frozen=True, slots=True)
class _Searched:
    """What a look through a text came upon."""

    values: tuple[FoundJson, ...] = ()
    doubtful: tuple[FoundJson, ...] = ()
    """Arrays that may be no more than footnotes' marks."""
    broken: tuple[str, ...] = ()
    """Texts that begin as JSON and are none."""


def find_json(
    text: str, schema: JsonSchema | None, *, reach: Extraction, complete: bool
) -> FoundJson | NoJson:
    """Find the value that the answer gives; the same answer always gives the same.

    An answer that is not `complete` is not mended or read line by line: something may be missing.
    """
    try:
        return FoundJson(text, orjson.loads(text))
    except orjson.JSONDecodeError as error:
        why = error.msg
    steps = _STEPS[: _STEPS.index(reach) + 1]
    after = text.rpartition(_THOUGHTS_END)[2]
    searched = _searched(after, steps)
    found = _chosen(searched, schema)
    if found is None and complete:
        found = _recovered(after, searched, schema, steps)
    if found is not None:
        return found
    several = len(searched.values) + len(searched.broken)
    if several > 1:
        why = f"it holds {several} JSON values, where one is wanted"
    return NoJson(why)


def _searched(text: str, steps: tuple[Extraction, ...]) -> _Searched:
    searched = _in_fences(text) if "fenced" in steps else _Searched()
    if "embedded" in steps and not (searched.values or searched.broken):
        return _in_prose(text)
    return searched


def _recovered(
    text: str, searched: _Searched, schema: JsonSchema | None, steps: tuple[Extraction, ...]
) -> FoundJson | None:
    """What can be read out of an answer that holds no sound JSON."""
    if searched.values:
        return None
    if "mended" in steps and len(searched.broken) == 1:
        value = mend_json(searched.broken[0])
        if value is not None:
            note = "mended the JSON's quotes, commas or words; no value was added or left out"
            return FoundJson(orjson.dumps(value).decode(), value, "mended", note)
    if "lines" in steps and schema is not None and not searched.broken:
        fields = read_lines(text, schema)
        if fields is not None:
            note = "read the values from lines of the text, as there was no JSON"
            return FoundJson(orjson.dumps(fields).decode(), fields, "lines", note)
    return None


def _chosen(searched: _Searched, schema: JsonSchema | None) -> FoundJson | None:
    values = searched.values
    if searched.broken:
        return None
    if schema is not None:
        fitting = [each for each in (*values, *searched.doubtful) if not schema.problems(each.data)]
        if fitting and _all_alike(fitting):
            return fitting[-1]
    if values and _all_alike(values):
        # One that does not fit the schema, so that the model can be told what is wrong with it.
        return values[-1]
    return None


def _all_alike(values: list[FoundJson] | tuple[FoundJson, ...]) -> bool:
    return all(each.text == values[0].text or each.data == values[0].data for each in values)


def _in_fences(text: str) -> _Searched:
    values: list[FoundJson] = []
    broken: list[str] = []
    blocks = fenced_blocks(text)
    if len(blocks) > _MAX_BLOCKS:
        return _Searched()
    for block in blocks:
        inside = block.text.strip()
        try:
            data = orjson.loads(inside)
        except orjson.JSONDecodeError:
            if block.language in _JSON_NAMES or (len(blocks) == 1 and inside[:1] in {"{", "["}):
                broken.append(inside)
            continue
        note = "took the JSON out of its fence"
        values.append(FoundJson(inside, data, "fenced", note))
    return _Searched(tuple(values), broken=tuple(broken))


def _in_prose(text: str) -> _Searched:
    values: list[FoundJson] = []
    doubtful: list[FoundJson] = []
    place, work = 0, 0
    for _ in range(_MAX_TRIES):
        opening = _STRONG.search(text, place)
        if opening is None:
            return _Searched(tuple(values), tuple(doubtful))
        start, weak = opening.start(), opening[1] is not None
        end, read = _end_of_value(text, start)
        work += read
        if end is None and not weak:
            last = max(text.rfind("}"), text.rfind("]")) + 1
            broken = text[start : max(last, start + 1)]
            return _Searched(tuple(values), tuple(doubtful), (broken,))
        if work > _MAX_WORK_CHARS:
            break
        if end is None:
            # Not into it: what stands within broken brackets may be a part of the answer only.
            place = (text.find("]", start) + 1) or len(text)
            continue
        inside = text[start:end]
        empty = len(inside) < 16 and not inside.strip("{}[] \t\r\n")  # noqa: PLR2004
        try:
            found = FoundJson(
                inside, orjson.loads(inside), "embedded", "took the JSON out of the text around it"
            )
        except orjson.JSONDecodeError:
            return _Searched(tuple(values), tuple(doubtful), (inside,))
        (doubtful if weak or empty else values).append(found)
        place = end
    # Too much to look through: what is further on is not known.
    return _Searched(tuple(values), tuple(doubtful), (text[place:],))


_DECODER = json.JSONDecoder()


def _end_of_value(text: str, start: int) -> tuple[int | None, int]:
    """Where the value that begins at `start` ends, None for none; and how much was read."""
    try:
        _, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        return None, error.pos - start + 1
    except (RecursionError, ValueError):
        # Nested deeper than the parser goes, or a number of more digits than Python reads.
        return None, 10_000
    return end, end - start
