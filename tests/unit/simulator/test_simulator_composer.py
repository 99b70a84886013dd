"""What the simulator answers."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.simulator.behaviour import PLAIN, Behaviour
from millrace.providers.simulator.call import SimulatedCall, ToolOffer, Turn
from millrace.providers.simulator.composer import Composer
from millrace.providers.simulator.reply import Answer
from millrace.providers.simulator.tokens import MARK, split_tokens

_TOOL = ToolOffer(
    "get_weather",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def _composer(**changes: Any) -> Composer:
    return Composer(**{"seed": 1, "answer_tokens": (20, 60), "dissent": 0.0, **changes})


def _ask(
    text: str, behaviour: Behaviour = PLAIN, *, composer: Composer | None = None, **fields: Any
) -> Answer:
    given_turns = fields.pop("turns", (Turn("user", text),))
    call = SimulatedCall(
        **{"instance": "a", "model": "m", "stream": True, "turns": given_turns, **fields}
    )
    return (composer or _composer()).compose(call, behaviour, call.digest())


def test_the_same_call_gets_the_same_answer() -> None:
    """On any instance; another model, seed or message changes it."""
    asked = "Explain partition assignment."
    same = _ask(asked)

    assert same.text == _ask(asked, instance="b").text
    others = {
        _ask(asked, model="n").text,
        _ask(asked, composer=_composer(seed=2)).text,
        _ask("Explain compaction.").text,
    }
    assert same.text not in others


@settings(max_examples=60)
@given(st.text(max_size=300), st.integers(1, 300))
def test_prose_has_the_ordered_length_and_the_mark(text: str, tokens: int) -> None:
    """Counted by the simulator's own rule, so that usage can be checked by counting."""
    answer = _ask(text.replace("[[sim:", ""), Behaviour(tokens=tokens))

    assert tokens == len(answer.tokens)
    assert answer.text.startswith(MARK)
    assert answer.finish == "stop"


def test_prose_stays_within_the_set_range() -> None:
    """And varies within it."""
    lengths = {len(_ask(f"Tell me about topic {index}.").tokens) for index in range(80)}

    assert lengths <= set(range(20, 61))
    assert len(lengths) > 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Review this pull request:\n+ x = 1", "Blocking"),
        ("Write a function that groups rows.", "```python"),
        ("Diagnose this stack trace: KeyError", "trace"),
        ("Design a workflow for a failover.", "Step"),
    ],
)
def test_prose_fits_the_task(text: str, words: str) -> None:
    """The kind of work is read from the request."""
    assert words in _ask(text, Behaviour(tokens=120)).text


def test_an_ordered_answer_is_said_exactly() -> None:
    """Without the mark: the header says that it is simulated."""
    assert _ask("x", Behaviour(answer="  two words\n")).text == "  two words\n"


def test_the_token_limit_cuts() -> None:
    """And says so."""
    answer = _ask("Tell me more.", Behaviour(tokens=30), max_tokens=7)

    assert (len(answer.tokens), answer.finish) == (7, "length")


def test_the_first_stop_sequence_ends_the_answer() -> None:
    """It is not part of the text."""
    answer = _ask("x", Behaviour(answer="one, two; three"), stop=("; ", ", "))

    assert (answer.text, answer.finish, answer.stop_sequence) == ("one", "stop_sequence", ", ")
    assert list(answer.tokens) == split_tokens("one")


def test_json_is_answered_where_a_field_asks_for_it() -> None:
    """With the schema's properties if there is one."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    assert isinstance(orjson.loads(_ask("Count.", json_asked=True).text), dict)
    made = orjson.loads(_ask("Count.", json_asked=True, json_schema=schema).text)
    assert isinstance(made["n"], int)


@pytest.mark.parametrize("role", ["system", "user"])
def test_json_is_answered_where_the_text_asks_for_it(role: Any) -> None:
    """With the schema that the text quotes."""
    text = (
        "Answer with a single JSON value that is valid under this JSON Schema, and with nothing"
        ' else:\n{"type":"object","properties":{"sure":{"type":"boolean"}},"required":["sure"]}'
    )
    turns = (Turn(role, text), Turn("user", "Is it late?"))[: 2 if role == "system" else 1]

    assert {"sure"} == orjson.loads(_ask("", turns=turns).text).keys()


def test_speaking_of_json_is_not_asking_for_it() -> None:
    """A question about JSON gets prose."""
    assert _ask("Why is JSON slow to parse?").text.startswith(MARK)


def test_wrong_json_is_prose() -> None:
    """For clients that must notice."""
    answer = _ask("Count.", Behaviour(wrong_json=True), json_asked=True)

    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(answer.text)


def test_json_answers_agree_between_models() -> None:
    """So that a vote over JSON has a majority."""
    texts = {_ask("Rate it.", json_asked=True, model=f"m{index}").text for index in range(10)}

    assert len(texts) == 1


def test_an_empty_answer_has_no_tokens() -> None:
    """And ends well, as a real one may."""
    answer = _ask("x", Behaviour(empty=True))

    assert (answer.text, answer.finish) == ("", "stop")


@pytest.mark.parametrize(
    ("text", "choice", "called"),
    [
        ("Use get weather for Oslo.", "auto", True),
        ("Tell a joke.", "auto", False),
        ("Tell a joke.", "required", True),
        ("Use get_weather.", "none", False),
    ],
)
def test_a_tool_is_called_where_demanded_or_named(text: str, choice: str, called: bool) -> None:
    """Its arguments fit its schema."""
    answer = _ask(text, tools=(_TOOL,), tool_choice=choice)

    assert called == (answer.tool is not None)
    if called:
        assert answer.finish == "tool_calls"
        assert isinstance(orjson.loads(answer.text)["city"], str)


def test_a_tool_result_is_answered_with_text() -> None:
    """So that a conversation with tools comes to an end."""
    turns = (Turn("user", "Use get_weather."), Turn("assistant", ""), Turn("tool", "12 degrees"))

    assert _ask("", turns=turns, tools=(_TOOL,)).tool is None
