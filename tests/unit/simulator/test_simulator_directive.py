"""Directives in the text of a request."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.providers.simulator.directive import find_directive, without_directives
from millrace.schemas.errors import RequestRefusedError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[sim:http=429 retry_after=2 times=1]]", {"http": 429, "retry_after": 2.0, "times": 1}),
        ("[[sim:http status=503]]", {"http": 503}),
        ("[[sim:http]]", {"http": 500}),
        ("[[sim:hang]]", {"hang": True}),
        ("[[sim:hang_mid after=7]]", {"hang_mid": 7}),
        ("[[sim:cut]]", {"cut": 3}),
        ("[[sim:cut=0 only=openai]]", {"cut": 0, "only": "openai"}),
        ("[[sim:cut_cleanly=2]]", {"cut_cleanly": 2}),
        ("[[sim:malformed]] [[sim:tokens=9]]", {"malformed": 3, "tokens": 9}),
        ("[[sim:error_in_stream=1]]", {"error_in_stream": 1}),
        ('[[sim:answer="a \\"b\\" ]] c"]]', {"answer": 'a "b" ]] c'}),
        ("[[sim:answer=blue]]", {"answer": "blue"}),
        ("[[sim:latency=150 pace=12.5 slow]]", {"latency": 150.0, "pace": 12.5, "slow": True}),
        ("[[sim:wrong_json empty=false]]", {"wrong_json": True, "empty": False}),
        ("[[sim: label=x1  no_usage ]]", {"label": "x1", "no_usage": True}),
    ],
)
def test_a_directive_sets_what_it_names(text: str, expected: dict[str, object]) -> None:
    """Names, values, flags and places are read."""
    directive = find_directive(f"Please answer. {text} Thanks.")

    assert directive is not None
    assert expected == directive.model_dump(exclude_unset=True)


def test_a_text_without_a_directive_has_none() -> None:
    """Brackets alone are no directive."""
    assert find_directive("a [[link]] and [sim:cut]") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[sim:cut", "not closed"),
        ("[[sim:explode=1]]", "explode"),
        ("[[sim:http=200]]", "http"),
        ("[[sim:http=429 hang]]", "exclude one another"),
        ("[[sim:=3]]", "'=3'"),
        ('[[sim:answer="\\x"]]', "answer"),
    ],
)
def test_a_wrong_directive_is_refused_by_name(text: str, told: str) -> None:
    """The message says what is wrong, so that a typo never passes for good behaviour."""
    with pytest.raises(RequestRefusedError, match="sim:") as caught:
        find_directive(text)

    assert told in caught.value.message


def test_a_model_does_not_see_directives() -> None:
    """They are cut out of what is answered."""
    assert without_directives('Tell me. [[sim:answer="]]"]] ') == "Tell me."


@given(st.text(alphabet='[]sim:="\\ cut1', max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but a refusal comes out of odd text."""
    with contextlib.suppress(RequestRefusedError):
        assert find_directive("[[sim:" + text) is not None
