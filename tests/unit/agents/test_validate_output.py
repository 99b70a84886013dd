"""What counts as an answer to what was asked."""

import json
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.validate_output import MAX_CHECKED_CHARS, ValidateOutput
from millrace.agents.validation.json_size import MAX_JSON_DEPTH, MAX_JSON_VALUES
from millrace.agents.validation.policy import TaskValidation, ValidationPolicy
from millrace.agents.validation.validators import BUILT_IN, Answer, ValidatorFailedError, Verdict
from millrace.agents.validation.verdict import InvalidOutput, Problem, ValidOutput
from millrace.schemas.request import OutputRules, OutputSpec
from millrace.schemas.vocabulary import FinishReason

CHECK = ValidateOutput(policy=ValidationPolicy(), validators=BUILT_IN)
validate = partial(CHECK, task="general")
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


def accepted(output: OutputSpec, text: str, finish: FinishReason = "stop") -> ValidOutput:
    """The answer, which must be valid."""
    found = validate(output, text, finish)
    assert isinstance(found, ValidOutput), found
    return found


@pytest.mark.parametrize(
    ("output", "text", "expected"),
    [
        (TEXT, "Hello", ("Hello", None)),
        (TEXT, " Hello\n", (" Hello\n", None)),
        (TEXT, "{broken", ("{broken", None)),
        (JSON, '{"a": 1}', ('{"a": 1}', {"a": 1})),
        (JSON, ' \n{"a": 1}\n', ('{"a": 1}', {"a": 1})),
        (JSON, "[1, 2]", ("[1, 2]", [1, 2])),
        (JSON, "null", ("null", None)),
        (JSON, "```json\n[1]\n```", ("[1]", [1])),
        (JSON, "```\n[1]\n```", ("[1]", [1])),
        (JSON, "```json\r\n[1]\r\n```", ("[1]", [1])),
        (JSON, "Here it is:\n\n```json\n[1]\n```\nDone.", ("[1]", [1])),
        (JSON, '{"a": "```"}', ('{"a": "```"}', {"a": "```"})),
        (
            JSON,
            '```json\n{"a": "```py\\nx\\n```"}\n```',
            ('{"a": "```py\\nx\\n```"}', {"a": "```py\nx\n```"}),
        ),
        (PERSON, '{"name": "Ann"}', ('{"name": "Ann"}', {"name": "Ann"})),
    ],
)
def test_a_good_answer_is_accepted(
    output: OutputSpec, text: str, expected: tuple[str, Any]
) -> None:
    """The JSON alone becomes the text, and its value the data."""
    found = accepted(output, text)

    assert (found.text, found.data) == expected


@pytest.mark.parametrize(
    ("output", "text", "complaint"),
    [
        (JSON, "Sure!", "not JSON"),
        (JSON, '{"a": NaN}', "not JSON"),
        (JSON, '{"a": 1} {"b": 2}', "not JSON"),
        (JSON, "// x\n[1]", "not JSON"),
        (JSON, "The answer is [1]", "not JSON"),
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
    assert accepted(JSON, "[1]", "length").data == [1]


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_depth_is_bounded(brackets: str) -> None:
    """What is accepted can be written into a record and read again."""
    opening, closing = ("[", "]") if brackets == "[]" else ('{"a":', "}")
    deep = opening * MAX_JSON_DEPTH + "1" + closing * MAX_JSON_DEPTH
    refused = opening + deep + closing

    assert accepted(JSON, deep).text == deep
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

    found = accepted(JSON, text)
    assert (found.text, found.data) == (written, value)


@settings(max_examples=80)
@given(st.text(alphabet='`{}[]",:1a \n\\', max_size=60))
def test_any_text_is_judged_and_what_is_valid_parses(text: str) -> None:
    """No answer makes the check itself fail."""
    found = validate(JSON, text, "stop")

    if isinstance(found, ValidOutput):
        assert orjson.loads(found.text) == found.data


@pytest.mark.parametrize(
    ("text", "finish", "score"),
    [
        ("Done.", "stop", 1.0),
        ("Done", "length", 0.5),
        ("I'm sorry, but I can't help.", "stop", 0.2),
    ],
)
def test_a_plain_text_has_a_score(text: str, finish: FinishReason, score: float) -> None:
    """Lower where it was cut off, or reads as a refusal."""
    assert accepted(TEXT, text, finish).score == score


def test_rules_of_the_task_and_of_the_request_hold_together() -> None:
    """Each broken one is a problem of its own, with what to change."""
    section = TaskValidation(rules=OutputRules(max_chars=5), validators=("no_refusal",))
    check = ValidateOutput(
        policy=ValidationPolicy(tasks={"summarization": section}), validators=BUILT_IN
    )
    output = OutputSpec(rules=OutputRules(must_match=("^x",)), validators=("complete",))
    text = "As an AI language model, no"

    found = check(output, text, "length", task="summarization")
    assert isinstance(found, InvalidOutput)
    assert [each.check for each in found.problems] == [
        "max_chars", "must_match", "no_refusal", "complete",
    ]  # fmt: skip
    assert all(each.suggestion for each in found.problems)
    assert text not in found.error.message
    assert isinstance(check(OutputSpec(), text, "stop", task="general"), ValidOutput)


def test_an_answer_may_have_to_reach_a_score() -> None:
    """The weakest part is named."""
    policy = ValidationPolicy(default=TaskValidation(min_score=0.6))
    check = ValidateOutput(policy=policy, validators=BUILT_IN)

    found = check(TEXT, "Half an answ", "length", task="general")
    assert isinstance(found, InvalidOutput)
    assert "weakest part is 'complete'" in found.error.message
    assert isinstance(check(TEXT, "A whole answer", "stop", task="general"), ValidOutput)


def test_what_the_operator_asks_of_a_task_is_not_asked_of_the_pipelines_own_questions() -> None:
    """A judge's answer is no summary."""
    policy = ValidationPolicy(default=TaskValidation(rules=OutputRules(min_chars=100)))
    check = ValidateOutput(policy=policy, validators=BUILT_IN)

    assert isinstance(check(TEXT, "short", "stop", task="general"), InvalidOutput)
    assert isinstance(check(TEXT, "short", "stop", task=None), ValidOutput)


def _fails(_answer: Answer) -> Verdict:
    raise ValidatorFailedError("took more than 1 s")


def test_a_validator_that_fails_is_named_as_what_it_is() -> None:
    """The answer is not called wrong, and the model is told nothing."""
    output = OutputSpec(validators=("slow", "gone"))
    check = ValidateOutput(policy=ValidationPolicy(), validators={"slow": _fails})

    found = check(output, "Hello", "stop", task="general")
    assert isinstance(found, InvalidOutput)
    assert (found.error.code, found.error.retryable, found.problems) == (
        "validator_failed", False, (),
    )  # fmt: skip
    assert "'slow' took more than 1 s" in found.error.message
    assert "'gone' is not installed" in found.error.message


def test_the_operator_may_let_answers_pass_that_a_validator_failed_to_judge() -> None:
    """A note says so."""
    policy = ValidationPolicy(when_validator_fails="accept")
    check = ValidateOutput(policy=policy, validators={"slow": _fails})

    found = check(OutputSpec(validators=("slow",)), "Hello", "stop", task="general")
    assert isinstance(found, ValidOutput)
    assert "took more than 1 s" in found.notes[0]


def test_problems_count_even_where_another_validator_failed() -> None:
    """What is known to be wrong can be repaired."""
    verdict = Verdict((Problem("tone", "too loud", "Whisper."),))
    validators = {"slow": _fails, "tone": lambda _answer: verdict}
    check = ValidateOutput(policy=ValidationPolicy(), validators=validators)

    found = check(OutputSpec(validators=("slow", "tone")), "HELLO", "stop", task="general")
    assert isinstance(found, InvalidOutput)
    assert (found.error.code, found.problems) == ("output_invalid", verdict.problems)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Title\n\n```py\nx = 1\n```\n", "# Title\n\n```py\nx = 1\n```\n"),
        ("```markdown\n# Title\n```", "# Title"),
    ],
)
def test_markdown_is_taken_out_of_a_fence_around_all_of_it(text: str, expected: str) -> None:
    """And otherwise left as it is."""
    assert accepted(OutputSpec(format="markdown"), text).text == expected


def test_markdown_with_an_open_fence_is_wrong() -> None:
    """All that follows would be shown as code."""
    found = validate(OutputSpec(format="markdown"), "# Title\n```py\nx = 1", "stop")

    assert isinstance(found, InvalidOutput)
    assert "not closed" in found.error.message


def test_an_answer_too_long_to_be_checked_is_refused() -> None:
    """Unless nothing is to be checked."""
    text = "x" * (MAX_CHECKED_CHARS + 1)

    assert accepted(TEXT, text).text == text
    found = validate(JSON, text, "stop")
    assert isinstance(found, InvalidOutput)
    assert found.problems[0].check == "size"


def test_the_number_of_values_is_bounded() -> None:
    """A schema is applied to each."""
    found = validate(JSON, json.dumps([0] * (MAX_JSON_VALUES + 1)), "stop")

    assert isinstance(found, InvalidOutput)
    assert "more than 50000 values" in found.error.message
