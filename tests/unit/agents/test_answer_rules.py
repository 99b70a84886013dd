"""Rules, languages, validators and code: what is checked besides JSON."""

# ruff: noqa: RUF001 (sentences in many scripts)

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.repair import MAX_ANSWER_CHARS, MAX_PROBLEMS, compose_repair
from millrace.agents.validation.fences import fenced_blocks
from millrace.agents.validation.find_code import FoundCode, find_code
from millrace.agents.validation.rules import broken_rules, check_rules
from millrace.agents.validation.syntax import MAX_CHECKED_CHARS, can_be_checked, syntax_error
from millrace.agents.validation.text_language import language_of
from millrace.agents.validation.validators import BUILT_IN, Answer
from millrace.agents.validation.verdict import Problem
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.message import Message
from millrace.schemas.request import OutputRules

SAMPLES = {
    "en": "The mill stands by the river, and the water that drives it comes from the hills.",
    "de": "Die Mühle steht am Fluss, und das Wasser, das sie treibt, kommt von den Hügeln.",
    "fr": "Le moulin est au bord de la rivière et les eaux qui le font tourner sont vives.",
    "es": "El molino está junto al río y el agua que lo mueve no viene de las colinas del norte.",
    "it": "Il mulino è vicino al fiume e non è un edificio della città, ma anche del paese più su.",
    "pt": "O moinho está junto do rio e a água que o move não vem da serra, mas de uma fonte.",
    "nl": "De molen staat aan het water en het is niet de enige die in het dorp voor meel zorgt.",
    "sv": "Kvarnen står vid ån och det är inte den enda som har ett hjul av trä för att mala.",
    "pl": "Młyn stoi nad rzeką i nie jest to jedyny, który się tam znajduje, ale jest do dziś.",
    "tr": "Değirmen bir nehrin yanında ve bu su için çok eski bir yol da var, ne kadar güzel.",
    "ru": "Мельница стоит у реки, и вода, которая её движет, приходит с холмов.",
    "uk": "Млин стоїть біля річки, і вода, що його рухає, приходить із пагорбів.",
    "ja": "水車は川のそばにあり、それを動かす水は丘から来ます。とても古いものです。",
    "zh": "磨坊在河边，推动它的水来自山上。这座磨坊已经有三百年的历史了，至今仍在使用。",
    "ko": "방앗간은 강가에 있고 그것을 움직이는 물은 언덕에서 온다.",
    "ar": "تقع الطاحونة على ضفة النهر والماء الذي يديرها يأتي من التلال",
    "he": "הטחנה עומדת ליד הנהר והמים שמניעים אותה באים מן הגבעות",
    "el": "Ο μύλος στέκεται δίπλα στο ποτάμι και το νερό έρχεται από τους λόφους.",
    "hi": "चक्की नदी के किनारे है और उसे चलाने वाला पानी पहाड़ियों से आता है।",
    "th": "โรงสีตั้งอยู่ริมแม่น้ำและน้ำที่หมุนมันมาจากเนินเขา",
}


@pytest.mark.parametrize("language", SAMPLES)
def test_a_sentence_is_enough_to_tell_its_language(language: str) -> None:
    """Each that a rule may ask for."""
    assert language_of(SAMPLES[language]) == language


@pytest.mark.parametrize("text", ["", "OK", "42 + 17 = 59", "x = foo(bar)", "Ann Bob Carla Doris"])
def test_what_is_no_sentence_has_no_language(text: str) -> None:
    """So that no rule is broken by it."""
    assert language_of(text) is None
    assert not list(broken_rules(OutputRules(language="fr"), text, None))


@pytest.mark.parametrize(
    ("rules", "text", "data", "broken"),
    [
        ({"min_chars": 3}, "ab", None, ["min_chars"]),
        ({"min_chars": 2, "max_chars": 2}, "ab", None, []),
        ({"max_chars": 1}, "ab", None, ["max_chars"]),
        ({"must_match": ["^a", "z"]}, "ab", None, ["must_match"]),
        ({"must_not_match": ["(?i)B$"]}, "ab", None, ["must_not_match"]),
        ({"must_match": ["(a+)+$"]}, "a" * 50_000 + "b", None, ["must_match"]),
        ({"required_keys": ["a", "b.c", "d.e"]}, "", {"a": None, "b": {"c": 1}, "d.e": 2}, []),
        ({"required_keys": ["a", "b.c"]}, "", {"b": {"d": 1}}, ["required_keys"]),
        ({"required_keys": ["a"]}, "", [], ["required_keys"]),
        ({"language": "de"}, SAMPLES["en"], None, ["language"]),
        ({"language": "en"}, SAMPLES["en"], None, []),
    ],
)
def test_each_broken_rule_is_named(
    rules: dict[str, Any], text: str, data: Any, broken: list[str]
) -> None:
    """With what to change."""
    found = list(broken_rules(OutputRules.model_validate(rules), text, data))

    assert [problem.check for problem in found] == broken
    assert all(problem.suggestion for problem in found)


@pytest.mark.parametrize("rules", [{"must_match": ["("]}, {"must_not_match": ["(?=a)"]}])
def test_a_pattern_that_cannot_be_used_is_refused(rules: dict[str, Any]) -> None:
    """When the request comes, not when its answer does."""
    with pytest.raises(InvalidEventError, match="cannot be used"):
        check_rules(OutputRules.model_validate(rules))


def test_a_language_that_cannot_be_told_is_refused() -> None:
    """Those that can are named."""
    with pytest.raises(InvalidEventError, match="use one of ar, de, el"):
        check_rules(OutputRules(language="xx"))


@pytest.mark.parametrize(
    ("name", "text", "fine"),
    [
        ("no_refusal", "I'm sorry, but I can't help with that.", False),
        ("no_refusal", "As an AI language model, I have no taste.", False),
        ("no_refusal", "The clerk said: she can't help. I can.", True),
        ("no_placeholders", "def f():\n    # ... rest of the code", False),
        ("no_placeholders", "Dear [Your Name],", False),
        ("no_placeholders", "See [your account](https://example.com) ...", True),
        ("no_repetition", "the same long line again\n" * 20, False),
        ("no_repetition", " ".join(f"word{number}" for number in range(200)), True),
        ("complete", "Half", True),
    ],
)
def test_validators_that_come_along(name: str, text: str, fine: bool) -> None:
    """Each says what it is for."""
    verdict = BUILT_IN[name](Answer(text, None, "text", "stop", "general"))

    assert (not verdict.problems) is fine
    assert 0 <= verdict.score <= 1


@pytest.mark.parametrize(
    ("language", "good", "bad"),
    [
        ("python", "x = [1]\n", "x = [1\n"),
        ("py", "async def f(): ...", "def f(:"),
        ("json", '{"a": 1}', "{'a': 1}"),
        ("yaml", "a: [1, 2]\nb: &x c\nd: *x", "a: [1, 2\nb: :"),
        ("toml", 'a = "b"', "a = b"),
        ("xml", "<a><b/></a>", "<a><b></a>"),
    ],
)
def test_syntax_is_checked_where_a_parser_is_at_hand(language: str, good: str, bad: str) -> None:
    """And what is wrong is said without quoting the code."""
    assert can_be_checked(language)
    assert syntax_error(language, good) is None
    assert syntax_error(language, bad)


def test_a_language_without_a_parser_is_not_judged() -> None:
    """No check pretends to be one."""
    assert not can_be_checked("cobol")
    assert syntax_error("cobol", "}{") is None


@pytest.mark.parametrize(
    ("language", "code", "sound"),
    [
        ("python", "(" * 100_000, False),
        ("python", "-" * 100_000 + "1", False),
        ("python", "x = 1\x00", False),
        ("python", "x = '\ud800'", False),
        ("json", "[" * 100_000, False),
        ("yaml", "[" * 5_000, False),
        ("yaml", "a: \x07", False),
        ("yaml", "a: &a [b]\n" + "".join(f"x{n}: &x{n} [*a, *a]\n" for n in range(50)), True),
        ("toml", "a = " + "[" * 50_000, False),
        ("xml", "<a>" * 50_000, False),
        ("xml", '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><a>&d;</a>', False),
        ("python", "x = (" * (MAX_CHECKED_CHARS // 4), True),
    ],
)
def test_hostile_code_does_no_harm(language: str, code: str, sound: bool) -> None:
    """Parsers give up, or are not asked at all, and the process goes on."""
    assert (syntax_error(language, code) is None) is sound


@settings(max_examples=60)
@given(
    text=st.text(alphabet="`~\n\r ab<>&[]{}:='\"\\", max_size=60),
    language=st.sampled_from([None, "python", "yaml", "toml", "xml", "json"]),
)
def test_any_answer_is_judged_as_code(text: str, language: str | None) -> None:
    """No answer makes the check itself fail."""
    found = find_code(text if text.strip() else "x", language)

    assert isinstance(found, FoundCode | Problem)


@pytest.mark.parametrize(
    ("text", "language", "code"),
    [
        ("x = 1\n", "python", "x = 1"),
        ("Here:\n```py\nx = 1\n```\nDone.", "python", "x = 1"),
        ("```\nx = 1\n```", "python", "x = 1"),
        ("```py\nx = 1\n```\n```sh\nls\n```\n```py\ny = 2\n```", "python", "x = 1\n\ny = 2"),
        ("~~~~go\nfunc\n~~~\n~~~~", "go", "func\n~~~"),
        ("```sh\nls\n```", None, "ls"),
    ],
)
def test_code_is_taken_out_of_its_fences(text: str, language: str | None, code: str) -> None:
    """Those of its language, joined."""
    found = find_code(text, language)

    assert isinstance(found, FoundCode)
    assert found.text == code


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Sorry, no code.", "not valid python"),
        ("```sh\nls\n```", "no fenced block of python"),
        ("```py\nx = 1", "not closed"),
        ("```py\nx = 1\n```\n```py\nx = (\n```", "block 2 of the code"),
    ],
)
def test_what_is_no_code_says_so(text: str, complaint: str) -> None:
    """In a sentence for the model."""
    found = find_code(text, "python")

    assert isinstance(found, Problem)
    assert complaint in found.message


def test_fences_within_longer_fences_are_text() -> None:
    """As CommonMark has it."""
    (block,) = fenced_blocks("````md\n```py\nx\n```\n````")

    assert (block.language, block.text) == ("md", "```py\nx\n```")


def test_a_repair_says_what_was_wrong_and_no_more() -> None:
    """The conversation, the answer, and each problem once."""
    asked = (Message(role="user", content="Why?"),)
    problem = Problem("json", "the answer is not JSON", "Give one strict JSON value.")

    first, answer, told = compose_repair(asked, "Because", (problem, problem))
    assert (first, answer) == (asked[0], Message(role="assistant", content="Because"))
    assert told.role == "user"
    assert told.text().count("the answer is not JSON. Give one strict JSON value.") == 1


@settings(max_examples=30)
@given(
    answer=st.text(max_size=50).map(lambda text: text * 1_000),
    messages=st.lists(st.text(max_size=20).map(lambda text: text * 100), max_size=30),
)
def test_a_repair_is_bounded_and_always_the_same(answer: str, messages: list[str]) -> None:
    """However long the answer, and however many problems."""
    problems = tuple(Problem("x", message, "Change it.") for message in messages)

    made = compose_repair((), answer, problems)
    assert made == compose_repair((), answer, problems)
    assert sum(len(each.text()) for each in made) < MAX_ANSWER_CHARS + 1_000 + 700 * MAX_PROBLEMS
