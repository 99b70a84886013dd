"""Reading the one JSON value that an answer gives."""

import json
import re
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.json_schema import JsonSchema, compile_schema
from millrace.agents.validation.find_json import Extraction, FoundJson, NoJson, find_json
from millrace.agents.validation.mend_json import MAX_MENDED_CHARS, mend_json

PERSON = compile_schema(
    {
        "type": "object",
        "required": ["name", "age"],
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    }
)
TICKET = compile_schema(
    {
        "type": "object",
        "required": ["id", "open"],
        "properties": {
            "id": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
            "open": {"type": "boolean"},
        },
    }
)
NESTED = compile_schema({"type": "object", "properties": {"a": {"type": "object"}}})


def find(
    text: str,
    schema: JsonSchema | None = None,
    reach: Extraction = "lines",
    *,
    complete: bool = True,
) -> FoundJson | NoJson:
    return find_json(text, schema, reach=reach, complete=complete)


@pytest.mark.parametrize(
    ("text", "how", "data"),
    [
        ("```json\n[1]", "fenced", [1]),
        ("~~~\n{}\n~~~", "fenced", {}),
        ('Input:\n```py\nx = {"a": 1}\n```\nOutput:\n```json\n{"b": 2}\n```', "fenced", {"b": 2}),
        ('Sure [1], see {name}: {"a": [1, 2]}. Anything else?', "embedded", {"a": [1, 2]}),
        ('{"a": 1} or, again, {"a": 1}', "embedded", {"a": 1}),
        ('<think>Maybe {"a": 1}?</think>\n{"a": 2} it is', "embedded", {"a": 2}),
        ("[[1, 2], [3]] is the matrix", "embedded", [[1, 2], [3]]),
        ('{"a": 1,}', "mended", {"a": 1}),
        ("{'a': True, b: None}", "mended", {"a": True, "b": None}),
        ('{"a": "two\nlines"}', "mended", {"a": "two\nlines"}),
        ('{\n  // why\n  "a": 1,\n}', "mended", {"a": 1}),
        ('{"a": "caf\\u00e9" "b": 2}', "mended", {"a": "café", "b": 2}),
        ("Here: {'a': 1}. Done.", "mended", {"a": 1}),
        ('{"a": "he said "hi", no?", "": [""],}', "mended", {"a": 'he said "hi", no?', "": [""]}),
        ("{'a': \"it's\", b: 'say \\'so\\''}", "mended", {"a": "it's", "b": "say 'so'"}),
        ("```json\n{'a': 1}\n```", "mended", {"a": 1}),
    ],
)
def test_json_is_found_however_it_is_wrapped(text: str, how: Extraction, data: Any) -> None:
    """By the surest step that reaches it, with a note of what was done."""
    found = find(text)

    assert isinstance(found, FoundJson)
    assert (found.how, found.data) == (how, data)
    assert orjson.loads(found.text) == data
    assert found.note


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1} and {"a": 2}',
        '```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```',
        '{"items": [{"x": 1}, {"x": 2}], oops}',
        '[1, oops, {"a": 1}]',
        '{"a": {"b": 1}',
        '{"a": [1, 2',
        '{"a": 1, "a": 2,}',
        "{'a': 1} and {'b': 2}",
        '{"a": }',
        '{"a": NaN}',
        '{"a": undefined}',
        '{"a": ...}',
        '{"a": word}',
        '["quoted", bare,]',
        '{"a": , "b": ""}',
        '{"a": "", : 1}',
        "The answer is [1]",
        "[]() is a link",
        '"\\ud800"',
        '{"a": "\\ud800",}',
        "{" * 5_000,
    ],
)
def test_what_is_doubtful_is_no_answer(text: str) -> None:
    """Nothing is chosen among several, taken out of what is broken, closed, or made up."""
    assert isinstance(find(text), NoJson)


def test_the_schema_tells_which_of_several_is_meant() -> None:
    """As long as one alone fits it."""
    draft, answer = '{"name": "Ann"}', '{"name": "Ann", "age": 7}'

    found = find(f"First {draft}, then {answer}", PERSON)
    assert isinstance(found, FoundJson)
    assert found.text == answer
    assert isinstance(find(f"{answer} or {answer.replace('7', '8')}", PERSON), NoJson)


def test_an_array_that_may_be_a_footnote_needs_a_schema() -> None:
    """As `[1]` stands in many texts."""
    found = find("The answer is [1].", compile_schema({"type": "array"}))

    assert isinstance(found, FoundJson)
    assert found.data == [1]


@pytest.mark.parametrize(
    ("text", "schema", "data"),
    [
        ("Name: Ann\nAge: 7", PERSON, {"name": "Ann", "age": 7}),
        ("- **name**: Ann\n- **age** = 7\n", PERSON, {"name": "Ann", "age": 7}),
        ("The ticket AB-123.\nOpen: True", TICKET, {"id": "AB-123", "open": True}),
        ("Name: Ann", PERSON, None),
        ("Name: Ann\nAge: about seven", PERSON, None),
        ("Name: Ann\nName: Bob\nAge: 7", PERSON, None),
        ("AB-123 or AB-124\nopen: true", TICKET, None),
        ("a: 1", NESTED, None),
    ],
)
def test_fields_are_read_from_lines_as_a_last_resort(
    text: str, schema: JsonSchema, data: Any
) -> None:
    """All that the schema wants, each from one place, or nothing."""
    found = find(text, schema)

    assert (found.data if isinstance(found, FoundJson) else None) == data


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ('{"a": 1}', "strict"),
        ("```json\n[1]\n```", "fenced"),
        ('It is {"a": 1}.', "embedded"),
        ("{'a': 1}", "mended"),
        ("name: Ann\nage: 7", "lines"),
    ],
)
def test_how_far_to_go_is_a_setting(text: str, reach: Extraction) -> None:
    """Each step is taken from its own setting on, and not before."""
    steps: list[Extraction] = ["strict", "fenced", "embedded", "mended", "lines"]
    schema = PERSON if reach == "lines" else None

    found = [isinstance(find(text, schema, step), FoundJson) for step in steps]
    assert found == [number >= steps.index(reach) for number in range(len(steps))]


@pytest.mark.parametrize("text", ["{'a': 1}", "name: Ann\nage: 7"])
def test_what_was_cut_off_is_not_mended(text: str) -> None:
    """Something may be missing."""
    assert isinstance(find(text, PERSON, complete=False), NoJson)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.text(max_size=4), _VALUES, min_size=1, max_size=4)
_NOISE = st.text(alphabet="abc .,:;!?'\"\n#*-()<>é漢", max_size=40)


@settings(max_examples=40)
@given(value=_OBJECTS, before=_NOISE, after=_NOISE)
def test_json_in_noise_comes_back_exactly(value: Any, before: str, after: str) -> None:
    """Letter by letter, whatever stands around it."""
    written = json.dumps(value)
    text = f"{before}\n{written}\n{after}"

    found = find(text.strip())
    assert isinstance(found, FoundJson)
    assert (found.text, found.data) == (written, value)


@settings(max_examples=80)
@given(value=_VALUES)
def test_strict_json_is_never_altered(value: Any) -> None:
    """Neither its text nor its value."""
    written = json.dumps(value, indent=1)

    assert find(written, PERSON) == FoundJson(written, value)


@settings(max_examples=150)
@given(st.text(alphabet="{}[]\"',:`\n \\truefalsN1.-/#", max_size=80))
def test_what_is_mended_says_the_very_same(text: str) -> None:
    """No letter, digit or bracket comes or goes."""
    value = mend_json(text)

    if value is not None:
        kept = [re.findall(r"[1-9{}\[\]]", each) for each in (text, orjson.dumps(value).decode())]
        lines = "\n".join(line for line in text.split("\n") if line.lstrip()[:1] not in {"/", "#"})
        assert kept[1] == re.findall(r"[1-9{}\[\]]", lines)


_HOSTILE = {
    "open brackets": "[" * 900_000,
    "open objects": '{"a":' * 150_000,
    "numbers never closed": "[1," * 300_000,
    "objects that break late": "{a: " + "x" * 900_000,
    "many broken ones": '{"a" 1} ' * 100_000,
    "many sound ones": '{"a": 1} ' * 100_000,
    "fences": "```\n" * 200_000,
    "backticks": "`" * 900_000,
    "lines of keys": "name: x\n" * 100_000,
    "one long line": "name: " + " " * 900_000,
    "spaces after a brace": ("{" + " " * 99) * 9_000,
    "footnotes": "[1] " * 200_000,
    "quotes": '{"' * 24_000,
    "backslashes": '{"a": "' + "\\" * (MAX_MENDED_CHARS - 10),
    "single quotes": "{'" + "a'" * 20_000,
    "a list of commas": "[" + "'a'," * 12_000 + "]",
    "keys without values": "{" + "a:" * 20_000 + "}",
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_a_hostile_answer_takes_bounded_time(name: str) -> None:
    """On a busy machine, too: a loop that grows with the square would take minutes."""
    started = time.process_time()
    found = find(_HOSTILE[name], PERSON)

    assert isinstance(found, FoundJson | NoJson)
    assert time.process_time() - started < 5
