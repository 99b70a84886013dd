"""Models that decline to answer, in words that the vendor tells from answers."""

from pipeline_joins import make_join
from pipeline_records import make_call, make_outcome, make_plan

from millrace.schemas.message import ToolCall

JOIN = make_join()


def test_a_refusal_is_no_answer_and_its_words_reach_the_requester() -> None:
    """Under their own name, and not in the error's message."""
    outcome = make_outcome(make_call(), text="", refusal="I cannot help with that.")
    response = JOIN.decide(None, outcome, 0).response

    assert response is not None
    assert response.error is not None
    assert (response.status, response.error.code) == ("failed", "content_filtered")
    assert (response.text, response.refusal) == ("", "I cannot help with that.")
    assert "cannot help" not in response.error.message


def test_the_next_candidate_is_asked_after_a_refusal() -> None:
    """It may see no harm."""
    outcome = make_outcome(make_call(plan=make_plan(2)), text="", refusal="No.")
    (following,) = JOIN.decide(None, outcome, 0).calls

    assert following.target.provider == "p01"
    assert following.history[-1].error is not None
    assert following.history[-1].error.code == "content_filtered"


def test_an_answer_beside_a_refusal_is_an_answer() -> None:
    """Text or calls of tools."""
    said = make_outcome(make_call(), text="Well.", refusal="Not all of it.")
    called = make_outcome(
        make_call(), text="", refusal="Hm.", tool_calls=(ToolCall(name="f", arguments="{}"),)
    )

    for outcome in (said, called):
        response = JOIN.decide(None, outcome, 0).response
        assert response is not None
        assert response.status == "completed"
