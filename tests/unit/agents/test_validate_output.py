"""What counts as an answer to what was asked."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.validate_output import (
    MAX_JSON_DEPTH,
    InvalidOutput,
    ValidOutput,
    validate,
)
from millrace.schemas.request import OutputSpec

TEXT = OutputSpec()
JSON = OutputSpec(format="json")
PERSON = OutputSpec(
    format="json",
    json_schema={
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}},
    },
)


@pytest.mark.parametrize(
    ("output", "text", "expected"),
    [
        (TEXT, "Hello", ValidOutput("Hello")),
        (TEXT, " Hello\n", ValidOutput(" Hello\n")),
        (TEXT, "{broken", ValidOutput("{broken")),
        (JSON, '{"a": 1}', ValidOutput('{"a": 1}', {"a": 1})),
        (JSON, ' \n{"a": 1}\n', ValidOutput('{"a": 1}', {"a": 1})),
        (JSON, "[1, 2]", ValidOutput("[1, 2]", [1, 2])),
        (JSON, "null", ValidOutput("null", None)),
        (JSON, "```json\n[1]\n```", ValidOutput("[1]", [1])),
        (JSON, "```\n[1]\n```", ValidOutput("[1]", [1])),
        (JSON, "```json\r\n[1]\r\n```", ValidOutput("[1]", [1])),
        (JSON, "Here it is:\n\n```json\n[1]\n```\nDone.", ValidOutput("[1]", [1])),
        (JSON, '{"a": "```"}', ValidOutput('{"a": "```"}', {"a": "```"})),
        (
            JSON,
            '```json\n{"a": "```py\\nx\\n```"}\n```',
            ValidOutput('{"a": "```py\\nx\\n```"}', {"a": "```py\nx\n```"}),
        ),
        (PERSON, '{"name": "Ann"}', ValidOutput('{"name": "Ann"}', {"name": "Ann"})),
    ],
)
def test_a_good_answer_is_accepted(output: OutputSpec, text: str, expected: ValidOutput) -> None:
    """The JSON alone becomes the text, and its value the data."""
    assert validate(output, text, "stop") == expected


@pytest.mark.parametrize(
    ("output", "text", "complaint"),
    [
        (JSON, "Sure!", "not JSON"),
        (JSON, "{'a': 1}", "not JSON"),
        (JSON, '{"a": 1,}', "not JSON"),
        (JSON, '{"a": NaN}', "not JSON"),
        (JSON, '{"a": 1} {"b": 2}', "not JSON"),
        (JSON, "// x\n[1]", "not JSON"),
        (JSON, "The answer is [1]", "not JSON"),
        (JSON, "```json\n[1]", "not JSON"),
        (JSON, "```json\n[1]\n```\n```json\n[2]\n```", "not JSON"),
        (JSON, "```json\nno\n```", "not JSON"),
        (JSON, '"\\ud800"', "not JSON"),
        (PERSON, "{}", "lacks 'name'"),
        (PERSON, '{"name": 1}', "name must keep type 'string'"),
        (PERSON, "[]", "the top must keep type 'object'"),
    ],
)
def test_a_wrong_answer_says_what_is_wrong(output: OutputSpec, text: str, complaint: str) -> None:
    """Another try may turn out better."""
    found = validate(output, text, "stop")

    assert isinstance(found, InvalidOutput)
    assert found.error.code == "output_invalid"
    assert found.error.retryable is True
    assert complaint in found.error.message


@pytest.mark.parametrize("output", [TEXT, JSON, PERSON])
@pytest.mark.parametrize("text", ["", " \n\t"])
def test_nothing_is_no_answer(output: OutputSpec, text: str) -> None:
    """An empty reply is a failure of its own kind."""
    found = validate(output, text, "stop")

    assert isinstance(found, InvalidOutput)
    assert found.error.code == "empty_reply"


@pytest.mark.parametrize("output", [TEXT, JSON, PERSON])
def test_a_call_of_tools_is_an_answer(output: OutputSpec) -> None:
    """The final answer comes later, so that its form is not asked for yet."""
    assert validate(output, "", "tool_calls", tool_calls=1) == ValidOutput("")


def test_json_cut_off_at_the_token_limit_says_so() -> None:
    """The same limit would cut the next answer off, too."""
    found = validate(JSON, '{"a": [1, 2', "length")

    assert isinstance(found, InvalidOutput)
    assert "max_output_tokens" in found.error.message
    assert found.error.retryable is False


def test_complete_json_at_the_token_limit_is_fine() -> None:
    """What parses was not cut off."""
    assert validate(JSON, "[1]", "length") == ValidOutput("[1]", [1])


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_depth_is_bounded(brackets: str) -> None:
    """What is accepted can be written into a record and read again."""
    opening, closing = ("[", "]") if brackets == "[]" else ('{"a":', "}")
    accepted = opening * MAX_JSON_DEPTH + "1" + closing * MAX_JSON_DEPTH
    refused = opening + accepted + closing

    assert isinstance(validate(JSON, accepted, "stop"), ValidOutput)
    found = validate(JSON, refused, "stop")
    assert isinstance(found, InvalidOutput)
    assert "deeper than 100 levels" in found.error.message


def test_a_wide_answer_is_not_a_deep_one() -> None:
    """Many brackets side by side are fine."""
    assert isinstance(validate(JSON, json.dumps([[]] * 10_000), "stop"), ValidOutput)


@pytest.mark.parametrize("depth", [5_000, 200_000])
def test_brackets_without_end_do_no_harm(depth: int) -> None:
    """The parser gives up early."""
    assert isinstance(validate(JSON, "[" * depth, "stop"), InvalidOutput)
    assert isinstance(validate(JSON, "[" * depth + "]" * depth, "stop"), InvalidOutput)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@settings(max_examples=80)
@given(value=_VALUES, fence=st.sampled_from(["", "```", "```json"]))
def test_any_json_survives_with_or_without_a_fence(value: Any, fence: str) -> None:
    """The data is the value, and the text parses to it."""
    written = json.dumps(value)
    text = f"{fence}\n{written}\n```" if fence else written

    assert validate(JSON, text, "stop") == ValidOutput(written, value)


@settings(max_examples=80)
@given(st.text(alphabet='`{}[]",:1a \n\\', max_size=60))
def test_any_text_is_judged_and_what_is_valid_parses(text: str) -> None:
    """No answer makes the check itself fail."""
    found = validate(JSON, text, "stop")

    if isinstance(found, ValidOutput):
        assert orjson.loads(found.text) == found.data
