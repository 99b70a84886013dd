"""How each strategy comes to its answer."""

import json
from typing import Any

import pytest
from pipeline_joins import (
    OutcomesTopic,
    chain_of,
    delegating,
    ensemble_of,
    first_calls,
    make_join,
    make_member,
    racing,
    strategy_plan,
)
from pipeline_records import at, make_call, make_job, make_outcome

from millrace.agents.join import open_until
from millrace.schemas.call import CascadeRule, Plan, VoteRule
from millrace.schemas.message import Message
from millrace.schemas.outcome import JoinOpened, JoinTimeout
from millrace.schemas.request import OutputSpec
from millrace.schemas.response import Response

JOB = make_job()
JSON = OutputSpec(format="json")


def ended(topic: OutcomesTopic) -> Response:
    """The one end."""
    (response,) = topic.responses
    return response


def answered(topic: OutcomesTopic, plan: Plan, *texts: str | None, seconds: float = 1) -> None:
    """The members of the first stage answer, or fail where the text is None."""
    for call, text in zip(first_calls(JOB, plan), texts, strict=True):
        status = "failed" if text is None else "completed"
        topic.write(make_outcome(call, text=text or "", status=status, seconds=seconds))  # type: ignore[arg-type]


# --- parallel


def test_the_first_valid_answer_wins_a_race_and_the_others_are_stopped() -> None:
    """A member that failed is not stopped again."""
    plan, topic = racing(4), OutcomesTopic()
    calls = first_calls(JOB, plan)
    topic.write(
        make_outcome(calls[3], status="failed"),
        make_outcome(calls[1], text="mine", seconds=2),
        make_outcome(calls[0], text="late", seconds=3),
    )

    response = ended(topic)
    assert (response.status, response.text, response.strategy) == ("completed", "mine", "parallel")
    assert response.ensemble is not None
    assert (response.ensemble.decided_by, response.ensemble.decided_by_member) == ("first", 1)
    assert (response.ensemble.missing, response.ensemble.cancelled) == ((0, 2, 3), (0, 2))
    assert [each.members for each in topic.cancellations] == [(0, 2)]
    assert not response.cost_final


def test_an_invalid_answer_wins_no_race() -> None:
    """However quick it was."""
    job, plan, topic = make_job(output=JSON), racing(2), OutcomesTopic()
    first, second = first_calls(job, plan)
    topic.write(make_outcome(first, text="no JSON"), make_outcome(second, text="{}", seconds=2))

    assert (ended(topic).text, ended(topic).data) == ("{}", {})
    assert ended(topic).cost_final


def test_a_race_that_nobody_finishes_fails_with_the_last_error_and_keeps_what_was_said() -> None:
    """The requester has paid for it."""
    job, plan, topic = make_job(output=JSON), racing(2), OutcomesTopic()
    first, second = first_calls(job, plan)
    topic.write(
        make_outcome(first, text="no JSON"), make_outcome(second, status="failed", seconds=2)
    )

    response = ended(topic)
    assert (response.status, response.text) == ("failed", "no JSON")
    assert response.error is not None
    assert response.error.code == "provider_unavailable"
    assert topic.cancellations == []


# --- members that were cancelled or took too long


def test_a_cancelled_member_ends_itself_alone() -> None:
    """The others decide."""
    plan, topic = ensemble_of(3, "vote", quorum=2), OutcomesTopic()
    calls = first_calls(JOB, plan)
    topic.write(
        make_outcome(calls[0], status="cancelled", cancelled="member"),
        make_outcome(calls[1], text="a", seconds=2),
        make_outcome(calls[2], text="a", seconds=3),
    )

    verdict = ended(topic).ensemble
    assert verdict is not None
    assert (ended(topic).status, verdict.cancelled, verdict.partial) == ("completed", (0,), True)


def test_a_request_all_of_whose_members_were_cancelled_is_cancelled() -> None:
    """One by one."""
    plan, topic = racing(2), OutcomesTopic()
    for call in first_calls(JOB, plan):
        topic.write(make_outcome(call, status="cancelled", cancelled="member"))

    assert (ended(topic).status, ended(topic).cost_final) == ("cancelled", True)


@pytest.mark.parametrize(("members", "final"), [(1, True), (2, False)])
def test_a_cancelled_request_ends_whatever_its_members_do(members: int, final: bool) -> None:
    """As the client wished; what the others cost until they stop is not in the response."""
    plan, topic = racing(members), OutcomesTopic()
    first, *others = first_calls(JOB, plan)
    cancelled = make_outcome(first, status="cancelled", cancelled="request")
    topic.write(cancelled, *map(make_outcome, others))

    assert (ended(topic).status, ended(topic).cost_final) == ("cancelled", final)


@pytest.mark.parametrize(("quorum", "status"), [(2, "completed"), (3, "failed")])
def test_members_that_take_too_long_are_left_out_and_stopped(quorum: int, status: str) -> None:
    """Timed from when their calls were written; the record says when, so a restart agrees."""
    plan = ensemble_of(3, "vote", quorum=quorum, member_timeout_s=10)
    topic = OutcomesTopic()
    topic.write(JoinOpened(job=JOB, plan=plan, opened_at=at(4)))
    first, second, third = first_calls(JOB, plan)
    topic.write(make_outcome(first, text="a", seconds=5), make_outcome(second, text="a", seconds=6))
    assert topic.state is not None
    assert open_until(topic.state) == at(14)

    early = topic.write(JoinTimeout(request_id="r1", due=at(10)))
    topic.write(JoinTimeout(request_id="r1", due=at(14)), make_outcome(third, seconds=15))

    assert early.response is None
    response = ended(topic)
    assert (response.status, response.completed_at) == (status, at(14))
    assert response.ensemble is not None
    assert (response.ensemble.timed_out, response.ensemble.missing) == ((2,), (2,))
    assert [each.members for each in topic.cancellations] == [(2,)]
    assert not response.cost_final


def test_each_stage_has_its_own_time() -> None:
    """A time-out of the one before is none of the next one's."""
    plan = chain_of(2, member_timeout_s=10)
    topic = OutcomesTopic()
    answered(topic, plan, "draft", seconds=8)
    assert topic.state is not None
    assert open_until(topic.state) == at(18)

    stale = topic.write(JoinTimeout(request_id="r1", due=at(10)))
    topic.write(JoinTimeout(request_id="r1", due=at(18)))

    assert stale.ignored is not None
    response = ended(topic)
    assert (response.status, response.text) == ("completed", "draft")
    assert response.ensemble is not None
    assert response.ensemble.timed_out == (1,)


@pytest.mark.parametrize(("third", "status"), [("expired", "expired"), ("failed", "failed")])
def test_members_that_ran_out_of_time_expire_the_request_if_they_would_have_been_enough(
    third: Any, status: str
) -> None:
    """Though their caller's clock was a little ahead of the deadline."""
    plan, topic = ensemble_of(3, "vote", quorum=2), OutcomesTopic()
    first, second, last = first_calls(JOB, plan)
    topic.write(
        make_outcome(first, text="a"),
        make_outcome(second, status="failed", seconds=2),
        make_outcome(last, status=third, seconds=59.999),
    )

    assert ended(topic).status == status


# --- ensembles


def test_weights_make_a_minority_win() -> None:
    """And the verdict says by how much."""
    members = (make_member(0, weight=3), make_member(1), make_member(2))
    plan, topic = strategy_plan("ensemble", *members, mode="weighted"), OutcomesTopic()
    answered(topic, plan, "a", "b", "b")

    verdict = ended(topic).ensemble
    assert verdict is not None
    assert (ended(topic).text, verdict.decided_by, verdict.agreement) == ("a", "weight", 0.6)
    assert [each.weight for each in verdict.scores] == [3, 1, 1]


def test_a_vote_goes_by_the_plan_s_rule() -> None:
    """Here by one field of the JSON."""
    job = make_job(output=JSON)
    plan = ensemble_of(3, "vote", vote=VoteRule(by="field", field="grade"))
    topic = OutcomesTopic()
    for call, grade in zip(first_calls(job, plan), (1, 2, 2), strict=True):
        topic.write(make_outcome(call, text=json.dumps({"grade": grade, "why": call.member})))

    assert ended(topic).data == {"grade": 2, "why": 1}


def judged(verdict: str | None, **rest: Any) -> OutcomesTopic:
    """Three answers and what a judge says of them; None is a judge that fails."""
    plan, topic = ensemble_of(3, "best_of", last="judge", **rest), OutcomesTopic()
    answered(topic, plan, "a", "b", "c")
    (call,) = topic.calls
    assert (call.member, call.role, call.output.format, call.stream) == (3, "judge", "json", False)
    status = "failed" if verdict is None else "completed"
    topic.write(make_outcome(call, text=verdict or "", status=status, seconds=2))  # type: ignore[arg-type]
    return topic


def embedding(*texts: str, mode: Any = "vote", **rest: Any) -> OutcomesTopic:
    """Answers that are to be compared by vectors; nobody has made these yet."""
    rule = VoteRule(by="embedding", similarity=0.9)
    plan = ensemble_of(len(texts), mode, last="embed", vote=rule, **rest)
    topic = OutcomesTopic()
    answered(topic, plan, *texts)
    return topic


def test_a_vote_by_embedding_asks_for_a_vector_of_each_answer() -> None:
    """In one call, of which no chunk is sent; the response names the members, and not that one."""
    topic = embedding("It does not.", "Yes.", "No, never." + "!" * 9_000)
    (call,) = topic.calls
    assert (call.member, call.role, call.messages, call.tools) == (3, "embed", (), ())
    assert [len(text) for text in call.inputs] == [12, 4, 6_000]
    assert not call.model_copy(update={"job": make_job(stream=True)}).stream

    topic.write(make_outcome(call, text="", embeddings=((1, 0.1), (0, 1), (1, 0)), seconds=3))

    response = ended(topic)
    assert (response.status, response.text) == ("completed", "It does not.")
    assert response.embeddings == ()
    verdict = response.ensemble
    assert verdict is not None
    assert (verdict.members, verdict.agreeing, verdict.dissenting) == (3, (0, 2), (1,))
    assert (verdict.decided_by, verdict.notes) == ("vote", ())
    assert [each.role for each in response.attempts] == ["answer"] * 3 + ["embed"]


@pytest.mark.parametrize("fields", [{"status": "failed"}, {"embeddings": ((1.0,), (1.0,))}])
def test_without_vectors_the_wording_decides_and_the_verdict_says_so(fields: Any) -> None:
    """One vector for three answers is no answer either."""
    topic = embedding("The cache is stale.", "Nobody knows.", "The cache is stale!!")
    topic.write(make_outcome(topic.calls[0], **{"text": "", **fields}))

    response = ended(topic)
    assert response.ensemble is not None
    assert response.ensemble.agreeing == (0, 2)
    assert "embed" in response.ensemble.notes[0]


@pytest.mark.parametrize("texts", [("Yes.", "yes", "**Yes**"), ("a", "a")])
def test_answers_that_are_the_same_need_no_vectors(texts: tuple[str, ...]) -> None:
    """Which would cost time and money, and change nothing."""
    topic = embedding(*texts)

    assert topic.calls == []
    assert ended(topic).ensemble is not None


def test_a_judge_chooses_by_number() -> None:
    """It sees the request, and each answer."""
    topic = judged('{"best": 2, "reason": "it is right"}')

    response = ended(topic)
    assert (response.text, response.provider) == ("b", "p10")
    assert response.ensemble is not None
    assert (response.ensemble.decided_by, response.ensemble.decided_by_member) == ("judge", 3)
    assert [each.role for each in response.attempts] == ["answer"] * 3 + ["judge"]
    asked = topic.calls[0].messages
    assert asked[0] == JOB.messages[0]
    assert all(text in asked[-1].text() for text in ("Answer 1", "Answer 3", "\nb\n"))


@pytest.mark.parametrize("verdict", [None, '{"best": 9}', "I like them all."])
def test_without_a_judge_s_word_the_score_decides_and_the_verdict_says_so(
    verdict: str | None,
) -> None:
    """A judge that fails costs nobody the answers that are there."""
    response = ended(judged(verdict))

    assert (response.status, response.text) == ("completed", "a")
    assert response.ensemble is not None
    assert response.ensemble.decided_by == "score"
    assert "judge" in response.ensemble.notes[0]


def test_a_merge_is_the_answer_and_is_validated_like_one() -> None:
    """The total is that of all members."""
    plan, topic = ensemble_of(2, "merge", last="merge"), OutcomesTopic()
    answered(topic, plan, "a", "b")
    (call,) = topic.calls
    topic.write(make_outcome(call, text="both", seconds=2))

    response = ended(topic)
    assert (response.text, response.provider, len(response.attempts)) == ("both", "p20", 3)
    assert response.usage is not None
    assert response.usage.input_tokens == 30
    assert response.ensemble is not None
    assert (response.ensemble.decided_by, response.ensemble.members) == ("merge", 2)


@pytest.mark.parametrize("mode", ["best_of", "merge"])
def test_one_answer_is_neither_judged_nor_merged(mode: Any) -> None:
    """Nobody pays for that."""
    plan = ensemble_of(2, mode, last="judge" if mode == "best_of" else "merge")
    topic = OutcomesTopic()
    answered(topic, plan, "a", None)

    assert (ended(topic).text, topic.calls) == ("a", [])


def test_the_deadline_ends_a_merge_with_the_answers_that_are_there() -> None:
    """By vote, and it says so."""
    plan, topic = ensemble_of(3, "merge", last="merge"), OutcomesTopic()
    answered(topic, plan, "a", "b", "b")
    topic.write(JoinTimeout(request_id="r1", due=at(60)))

    response = ended(topic)
    assert (response.status, response.text, response.completed_at) == ("completed", "b", at(60))
    assert response.ensemble is not None
    assert response.ensemble.notes == ("the merge member gave no valid answer",)


# --- chain


def test_each_link_of_a_chain_refines_the_one_before() -> None:
    """The draft is quoted to the next member."""
    plan, topic = chain_of(3), OutcomesTopic()
    answered(topic, plan, "draft")
    assert "draft" in topic.calls[0].messages[-1].text()
    topic.write(make_outcome(topic.calls[0], text="better", seconds=2))
    assert "better" in topic.calls[1].messages[-1].text()
    topic.write(make_outcome(topic.calls[1], text="best", seconds=3))

    response = ended(topic)
    assert (response.text, [each.member for each in response.attempts]) == ("best", [0, 1, 2])


def test_a_link_that_fails_is_passed_over() -> None:
    """The next one goes on from what there is, or begins."""
    plan, topic = chain_of(3, quorum=1), OutcomesTopic()
    answered(topic, plan, None)
    assert topic.calls[0].brief is None
    topic.write(make_outcome(topic.calls[0], text="draft", seconds=2))
    topic.write(make_outcome(topic.calls[1], status="failed", seconds=3))

    response = ended(topic)
    assert (response.status, response.text) == ("completed", "draft")
    assert response.ensemble is not None
    assert (response.ensemble.missing, response.ensemble.partial) == ((0, 2), True)


# --- cascade


def cascading(confidence: Any, *thresholds: float, tiers: tuple[int, ...] = (0, 1, 2)) -> Plan:
    """One member that climbs."""
    rule = CascadeRule(confidence=confidence, thresholds=thresholds)
    return strategy_plan("cascade", make_member(0, tiers=tiers), cascade=rule)


def test_a_tier_that_is_trusted_ends_a_cascade() -> None:
    """Nobody asks the dear one."""
    plan, topic = cascading("logprobs", 0.8, 0.8), OutcomesTopic()
    topic.write(make_outcome(first_calls(JOB, plan)[0], text="cheap", token_probability=0.9))

    response = ended(topic)
    assert (response.text, topic.calls) == ("cheap", [])
    assert response.cascade is not None
    assert (response.cascade.tier, response.cascade.sufficed, response.cascade.tiers) == (
        0,
        True,
        3,
    )


@pytest.mark.parametrize("sure", [0.5, None])
def test_a_tier_that_is_not_trusted_or_cannot_tell_is_climbed_over(sure: float | None) -> None:
    """Its stream is void, and readers are told; the last tier is taken as it is."""
    plan, topic = cascading("logprobs", 0.8, 0.8, tiers=(0, 0, 1)), OutcomesTopic()
    topic.write(
        make_outcome(first_calls(JOB, plan)[0], text="cheap", token_probability=sure, chunks=3)
    )
    (call,) = topic.calls
    assert (call.candidate, call.target.tier, call.brief) == (2, 1, None)
    (chunk,) = topic.restarts
    assert (chunk.sequence, chunk.end, chunk.invocation) == (3, "restarted", "i1")
    topic.write(make_outcome(call, text="dear", seconds=2))

    response = ended(topic)
    assert (response.text, len(response.attempts)) == ("dear", 2)
    assert response.cascade is not None
    assert [(each.tier, each.sufficed) for each in response.cascade.results] == [
        (0, False),
        (1, True),
    ]


@pytest.mark.parametrize(("rated", "text"), [(0.9, "cheap"), (0.2, "dear"), (None, "dear")])
def test_a_model_may_rate_itself(rated: float | None, text: str) -> None:
    """Asked about its own answer, in a call that is not streamed."""
    plan, topic = cascading("self_rating", 0.7, tiers=(0, 1)), OutcomesTopic()
    topic.write(make_outcome(first_calls(JOB, plan)[0], text="cheap"))
    rating = topic.calls[0]
    assert (rating.role, rating.candidate, rating.attempt, rating.stream) == ("rate", 0, 2, False)
    assert "cheap" in rating.messages[-1].text()
    said = "well" if rated is None else json.dumps({"confidence": rated})
    topic.write(make_outcome(rating, text=said, seconds=2))
    if text == "dear":
        topic.write(make_outcome(topic.calls[1], text="dear", seconds=3))

    assert ended(topic).text == text
    assert [each.role for each in ended(topic).attempts][:2] == ["answer", "rate"]


def test_a_cascade_whose_dear_tier_fails_gives_the_best_answer_it_has() -> None:
    """And says that it was not trusted."""
    plan, topic = cascading("logprobs", 0.8, 0.8), OutcomesTopic()
    topic.write(make_outcome(first_calls(JOB, plan)[0], text="fair", token_probability=0.6))
    topic.write(make_outcome(topic.calls[0], text="poor", token_probability=0.2, seconds=2))
    topic.write(make_outcome(topic.calls[1], status="failed", seconds=3))

    response = ended(topic)
    assert (response.status, response.text, len(response.attempts)) == ("completed", "fair", 3)
    assert response.cascade is not None
    assert (response.cascade.tier, response.cascade.sufficed) == (0, False)


def test_the_deadline_ends_a_cascade_with_the_answer_that_is_being_rated() -> None:
    """What was paid for is listed."""
    plan, topic = cascading("self_rating", 0.7, tiers=(0, 1)), OutcomesTopic()
    topic.write(
        make_outcome(first_calls(JOB, plan)[0], text="cheap"),
        JoinTimeout(request_id="r1", due=at(60)),
    )

    response = ended(topic)
    assert (response.status, response.text, len(response.attempts)) == ("completed", "cheap", 1)


def agreeing_pair() -> Plan:
    """Two cheap members, and a dear one should they not agree."""
    return strategy_plan(
        "cascade",
        make_member(0),
        make_member(1),
        make_member(2, stage=1, tiers=(1,)),
        cascade=CascadeRule(confidence="agreement", thresholds=(1.0,)),
    )


def test_two_cheap_models_that_agree_suffice() -> None:
    """The dear one was planned and is not called."""
    topic = OutcomesTopic()
    answered(topic, agreeing_pair(), "Yes", "yes.")

    response = ended(topic)
    assert (response.text, topic.calls) == ("Yes", [])
    assert response.cascade is not None
    assert (response.cascade.tier, response.cascade.sufficed) == (0, True)


@pytest.mark.parametrize("second", ["no", None])
@pytest.mark.parametrize("dear", ["maybe", None])
def test_cheap_models_that_do_not_agree_leave_it_to_the_dear_one(
    second: str | None, dear: str | None
) -> None:
    """If that fails, the first of them is the best there is."""
    topic = OutcomesTopic()
    answered(topic, agreeing_pair(), "yes", second)
    (call,) = topic.calls
    status = "failed" if dear is None else "completed"
    topic.write(make_outcome(call, text=dear or "", status=status, seconds=2))  # type: ignore[arg-type]

    response = ended(topic)
    assert response.text == (dear or "yes")
    assert response.cascade is not None
    assert (response.cascade.tier, response.cascade.sufficed) == ((1, True) if dear else (0, False))


# --- delegate

TWO_PARTS = json.dumps({"parts": [{"title": f"T{n}", "instructions": f"do {n}"} for n in (1, 2)]})


def test_work_is_divided_done_and_combined() -> None:
    """Members that are not needed are skipped."""
    plan, topic = delegating(3), OutcomesTopic()
    answered(topic, plan, TWO_PARTS)
    one, two = topic.calls
    assert (one.member, two.member, one.role) == (1, 2, "part")
    assert "do 2" in two.messages[-1].text()
    topic.write(make_outcome(two, text="second", seconds=2), make_outcome(one, text="first"))
    combine = topic.calls[-1]
    said = combine.messages[-1].text()
    assert said.index("first") < said.index("second")
    topic.write(make_outcome(combine, text="whole", seconds=3))

    response = ended(topic)
    assert (response.text, len(response.attempts)) == ("whole", 4)
    assert response.ensemble is not None
    assert (response.ensemble.skipped, response.ensemble.members) == ((3,), 2)
    assert response.ensemble.missing == ()


def test_without_a_plan_the_job_is_answered_as_it_stands() -> None:
    """By the member that would have combined."""
    plan, topic = delegating(2), OutcomesTopic()
    answered(topic, plan, None)
    (call,) = topic.calls
    assert (call.member, call.brief, call.role) == (3, None, "combine")
    topic.write(make_outcome(call, text="whole", seconds=2))

    response = ended(topic)
    assert (response.status, response.text) == ("completed", "whole")
    assert response.ensemble is not None
    assert "not divided" in response.ensemble.notes[0]


@pytest.mark.parametrize("output", [OutputSpec(), JSON])
def test_without_a_combination_the_parts_are_the_answer_where_that_can_be(
    output: OutputSpec,
) -> None:
    """A part that failed is missing, and is told to the combining member."""
    job, plan, topic = make_job(output=output), delegating(2), OutcomesTopic()
    topic.write(make_outcome(first_calls(job, plan)[0], text=TWO_PARTS))
    one, two = topic.calls
    topic.write(make_outcome(one, text="first", seconds=2))
    topic.write(make_outcome(two, status="failed", seconds=3))
    assert "T2" in topic.calls[-1].messages[-1].text()
    topic.write(make_outcome(topic.calls[-1], status="failed", seconds=4))

    response = ended(topic)
    if output.format == "text":
        assert (response.status, response.text) == ("completed", "T1\n\nfirst")
        assert response.ensemble is not None
        assert response.ensemble.partial
    else:
        assert response.status == "failed"


# --- repair


def test_an_invalid_answer_is_mended_by_its_model_then_by_the_next_one() -> None:
    """Told what was wrong, as often as the plan allows; the last answer only."""
    job = make_job(output=JSON)
    plan = strategy_plan("auto", make_member(0, tiers=(0, 0)), max_repairs=2)
    topic = OutcomesTopic()
    topic.write(make_outcome(make_call(job, plan), text="one", chunks=2))
    first = topic.calls[-1]
    assert first.brief is not None
    assert (first.candidate, first.attempt, first.brief.repairs) == (0, 2, 1)
    assert first.messages[:2] == (*job.messages, Message(role="assistant", content="one"))
    assert [each.end for each in topic.restarts] == ["restarted"]

    topic.write(make_outcome(first, text="two", seconds=2))
    second = topic.calls[-1]
    assert [each.content for each in second.messages if each.role == "assistant"] == ["two"]
    topic.write(make_outcome(second, text="three", seconds=3))
    third = topic.calls[-1]
    assert (third.candidate, third.brief, third.attempt) == (1, None, 4)
    topic.write(make_outcome(third, status="failed", seconds=4))

    response = ended(topic)
    assert (response.status, response.text, len(response.attempts)) == ("failed", "three", 4)
    assert [each.repair for each in response.attempts] == [False, True, True, False]


def test_nothing_is_mended_after_the_deadline() -> None:
    """What was said is kept."""
    job = make_job(output=JSON)
    plan = strategy_plan("auto", make_member(0), max_repairs=2)
    topic = OutcomesTopic()
    topic.write(make_outcome(make_call(job, plan), text="no", seconds=60))

    assert (ended(topic).status, ended(topic).text) == ("failed", "no")


def test_a_later_stage_s_answer_is_mended_too() -> None:
    """The next candidate is asked what the first one was."""
    last = make_member(2, role="judge", stage=1, tiers=(0, 0))
    plan = strategy_plan(
        "ensemble", make_member(0), make_member(1), last, mode="best_of", max_repairs=1
    )
    topic = OutcomesTopic()
    answered(topic, plan, "a", "b")
    asked = topic.calls[0]
    topic.write(make_outcome(asked, text="b, I think", seconds=2))
    mended = topic.calls[1]
    assert mended.messages[: len(asked.messages)] == asked.messages
    assert (mended.role, mended.candidate, mended.output) == ("judge", 0, asked.output)
    topic.write(make_outcome(mended, text="b!", seconds=3))
    assert topic.calls[2].brief == asked.brief
    topic.write(make_outcome(topic.calls[2], text='{"best": 2}', seconds=4))

    assert ended(topic).text == "b"


# --- bounds


def test_answers_that_are_too_large_together_are_a_failure_of_the_member() -> None:
    """Rather than a state that no changelog takes."""
    plan = ensemble_of(3, "vote", quorum=2)
    topic = OutcomesTopic(join=make_join(max_answers_bytes=1_000))
    answered(topic, plan, "a" * 600, "b" * 600, "c" * 300)

    response = ended(topic)
    assert response.status == "completed"
    assert response.ensemble is not None
    assert response.ensemble.missing == (1,)
    error = response.attempts[1].error
    assert error is not None
    assert (error.code, "max_answers_bytes" in error.message) == ("too_large", True)


def test_a_member_whose_answer_was_too_large_falls_back_and_says_why() -> None:
    """The attempt has failed, though its model completed."""
    members = (make_member(0), make_member(1, tiers=(0, 0)))
    plan = strategy_plan("ensemble", *members, mode="vote", quorum=2)
    topic = OutcomesTopic(join=make_join(max_answers_bytes=1_000))
    answered(topic, plan, "a" * 600, "b" * 600)

    (call,) = topic.calls
    (first,) = call.history
    assert (call.candidate, first.status) == (1, "failed")
    assert first.error is not None
    assert first.error.code == "too_large"


def test_a_call_that_no_topic_takes_is_not_made() -> None:
    """The answers decide without it."""
    plan = ensemble_of(2, "merge", last="merge")
    topic = OutcomesTopic(join=make_join(max_call_bytes=2_000))
    answered(topic, plan, "a" * 900, "b" * 900)

    response = ended(topic)
    assert (response.status, topic.calls) == ("completed", [])
    assert response.ensemble is not None
    assert "too large" in response.ensemble.notes[0]
