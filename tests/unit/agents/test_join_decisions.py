"""How each record about a request leads to its end."""

from typing import Literal

import pytest
from pipeline_joins import make_join
from pipeline_records import at, make_call, make_job, make_outcome, make_plan

from millrace.agents.join import open_until
from millrace.agents.joins.state import Decision, JoinState
from millrace.schemas.call import Call
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.outcome import (
    AttemptOutcome,
    JoinOpened,
    JoinTimeout,
    OutcomeRecord,
    Refusal,
)
from millrace.schemas.request import OutputSpec
from millrace.schemas.response import Response

JOIN = make_join()
DENIED = ErrorInfo(code="invalid_request", message="no")
NO_ROOM = ErrorInfo(code="budget_exceeded", message="budget 'all' has no room")
JSON = OutputSpec(format="json")


class Topic:
    """Applies records in order, as the processor does, and keeps what came of them."""

    def __init__(self) -> None:
        self.state: JoinState | None = None
        self.offset = 0
        self.responses: list[Response] = []

    def read(self, record: OutcomeRecord, *, offset: int | None = None) -> Decision:
        """Decide about the next record, or about one that lies at an offset."""
        if offset is None:
            offset = self.offset
            self.offset += 1
        decision = JOIN.decide(self.state, record, offset)
        if decision.state is not None:
            self.state = decision.state
        if decision.response is not None:
            self.responses.append(decision.response)
        return decision


def refusal(status: Literal["rejected", "expired"] = "rejected") -> Refusal:
    """What the router says of a bad or late request."""
    return Refusal(
        request_id="r1", status=status, error=DENIED, reply_to="a.replies", refused_at=at(1)
    )


def test_a_good_answer_ends_the_request() -> None:
    """With all that is known of it."""
    topic = Topic()
    job = make_job(reply_to="a.replies", team="payments", tags={"pr": "1"})
    decision = topic.read(make_outcome(make_call(job)))

    response = topic.responses[0]
    assert (response.status, response.text, response.error) == ("completed", "Because.", None)
    assert (response.provider, response.model, response.team) == ("p00", "m0", "payments")
    assert (response.tags, response.completed_at) == ({"pr": "1"}, at(1))
    assert [each.status for each in response.attempts] == ["completed"]
    assert (decision.reply_to, decision.calls) == ("a.replies", ())


def test_a_failure_goes_to_the_next_candidate() -> None:
    """The next call carries what became of this one."""
    topic = Topic()
    call = make_call(plan=make_plan(2))
    decision = topic.read(make_outcome(call, status="failed"))

    (following,) = decision.calls
    assert (following.attempt, following.candidate, topic.responses) == (2, 1, [])
    assert [each.error.code for each in following.history if each.error] == ["provider_unavailable"]

    topic.read(make_outcome(following, seconds=2))
    (response,) = topic.responses
    assert (response.status, response.provider) == ("completed", "p01")
    assert [(each.attempt, each.status) for each in response.attempts] == [
        (1, "failed"),
        (2, "completed"),
    ]


def test_the_last_candidate_s_failure_is_the_request_s() -> None:
    """With the last error, and every attempt listed."""
    topic = Topic()
    first = make_call(plan=make_plan(2))
    (second,) = topic.read(make_outcome(first, status="failed")).calls
    topic.read(make_outcome(second, status="failed", seconds=2))

    (response,) = topic.responses
    assert (response.status, len(response.attempts)) == ("failed", 2)
    assert response.error is not None
    assert response.error.code == "provider_unavailable"


@pytest.mark.parametrize(
    ("text", "code"), [("no JSON at all", "output_invalid"), ("  ", "empty_reply")]
)
def test_an_answer_that_is_not_what_was_asked_is_a_failure(text: str, code: str) -> None:
    """It falls back like any other, and the attempt says why."""
    topic = Topic()
    call = make_call(make_job(output=JSON), make_plan(2))
    (following,) = topic.read(make_outcome(call, text=text)).calls
    topic.read(make_outcome(following, text='{"a": 1}', seconds=2))

    (response,) = topic.responses
    assert (response.status, response.data) == ("completed", {"a": 1})
    error = response.attempts[0].error
    assert error is not None
    assert (response.attempts[0].status, error.code) == ("failed", code)


def test_the_last_invalid_answer_fails_the_request_but_is_shown() -> None:
    """The requester paid for the text."""
    topic = Topic()
    topic.read(make_outcome(make_call(make_job(output=JSON)), text="no JSON"))

    (response,) = topic.responses
    assert (response.status, response.text, response.data) == ("failed", "no JSON", None)
    assert response.error is not None
    assert response.error.code == "output_invalid"


@pytest.mark.parametrize(
    ("status", "seconds"), [("expired", 59.0), ("failed", 60.0), ("failed", 61.0)]
)
def test_nothing_is_tried_once_time_is_up(
    status: Literal["expired", "failed"], seconds: float
) -> None:
    """Though there is another candidate."""
    topic = Topic()
    call = make_call(plan=make_plan(2))
    decision = topic.read(make_outcome(call, status=status, seconds=seconds))

    assert (decision.calls, topic.responses[0].status) == ((), status)


def test_a_cancelled_attempt_cancels_the_request() -> None:
    """Though there is another candidate."""
    topic = Topic()
    topic.read(make_outcome(make_call(plan=make_plan(2)), status="cancelled"))

    assert topic.responses[0].status == "cancelled"


def test_an_attempt_is_decided_once() -> None:
    """A call that was made again after a crash neither calls nor ends again."""
    topic = Topic()
    call = make_call(plan=make_plan(2))
    (following,) = topic.read(make_outcome(call, status="failed")).calls

    again = topic.read(make_outcome(call, invocation="i2", seconds=5))
    assert (again.state, again.calls, again.response) == (None, (), None)

    topic.read(make_outcome(following, seconds=2))
    late = topic.read(make_outcome(call, invocation="i3", seconds=9))
    assert late.ignored == "the request has ended"
    assert len(topic.responses) == 1


@pytest.mark.parametrize("offset", [0, 3])
def test_a_record_read_again_changes_nothing(offset: int) -> None:
    """What followed from it is on its way."""
    topic = Topic()
    topic.offset = 3
    record = make_outcome(make_call(plan=make_plan(2)), status="failed")
    topic.read(record)

    again = topic.read(record, offset=offset)

    assert (again.state, again.calls, again.ignored) == (None, (), "read again")


def test_a_rejected_request_is_told_and_not_remembered() -> None:
    """Mended, it may come again under its id."""
    topic = Topic()
    decision = topic.read(refusal())
    assert (decision.state, decision.reply_to) == (None, "a.replies")
    assert topic.responses[0].status == "rejected"

    topic.read(make_outcome(make_call()))
    assert [each.status for each in topic.responses] == ["rejected", "completed"]


def test_an_expired_request_is_remembered() -> None:
    """It was accepted, so it ends once."""
    topic = Topic()
    topic.read(refusal("expired"))
    topic.read(make_outcome(make_call()))

    assert [each.status for each in topic.responses] == ["expired"]


def test_a_rejection_does_not_touch_a_request_under_way() -> None:
    """Somebody else's bad request under the same id ends nothing."""
    topic = Topic()
    call = make_call(plan=make_plan(2))
    (following,) = topic.read(make_outcome(call, status="failed")).calls
    topic.read(refusal())
    topic.read(make_outcome(following, seconds=2))

    assert [each.status for each in topic.responses] == ["completed"]


# --- Ensembles


def members(
    *texts: str | None, quorum: int = 1, job_seconds: float = 60.0
) -> tuple[JoinOpened, list[AttemptOutcome]]:
    """An ensemble of one candidate a member; None is a member that fails."""
    job = make_job(seconds=job_seconds)
    plan = make_plan(*[1] * len(texts), quorum=quorum)
    outcomes = [
        make_outcome(
            make_call(job, plan, member=number),
            text=text or "",
            status="completed" if text is not None else "failed",
            seconds=1 + number,
        )
        for number, text in enumerate(texts)
    ]
    return JoinOpened(job=job, plan=plan), outcomes


def test_a_vote_ends_once_every_member_is_done() -> None:
    """The majority's answer, and who was of which mind."""
    opened, outcomes = members("Yes.", "no", "yes")
    topic = Topic()
    for record in (opened, *outcomes):
        assert topic.responses == []
        topic.read(record)

    (response,) = topic.responses
    assert (response.status, response.text, response.completed_at) == ("completed", "Yes.", at(3))
    assert response.ensemble is not None
    assert response.ensemble.agreeing == (0, 2)
    assert response.ensemble.dissenting == (1,)
    assert response.usage is not None
    assert response.usage.input_tokens == 30
    assert len(response.attempts) == 3


@pytest.mark.parametrize(
    ("texts", "quorum", "status"),
    [
        (("a", None, "a"), 2, "completed"),
        (("a", None, None), 2, "failed"),
        (("a", None, None), 1, "completed"),
        ((None, None), 1, "failed"),
        (("a", "b", "c"), 3, "completed"),
    ],
)
def test_a_quorum_must_have_answered(
    texts: tuple[str | None, ...], quorum: int, status: str
) -> None:
    """Members that failed are missing; with too few the request fails."""
    opened, outcomes = members(*texts, quorum=quorum)
    topic = Topic()
    for record in (opened, *outcomes):
        topic.read(record)

    (response,) = topic.responses
    assert response.status == status
    assert response.ensemble is not None
    assert response.ensemble.answered == sum(text is not None for text in texts)
    assert set(response.ensemble.missing) == {
        number for number, text in enumerate(texts) if text is None
    }
    if status == "failed":
        assert response.error is not None
        assert response.error.code == "quorum_not_reached"


@pytest.mark.parametrize(("quorum", "status"), [(2, "completed"), (3, "expired")])
def test_the_deadline_ends_a_join_with_what_is_there(quorum: int, status: str) -> None:
    """Late members change nothing any more."""
    opened, outcomes = members("a", "a", "b", quorum=quorum)
    topic = Topic()
    for record in (opened, *outcomes[:2]):
        topic.read(record)
    assert topic.state is not None
    assert open_until(topic.state) == at(60)

    topic.read(JoinTimeout(request_id="r1", due=at(60)))
    topic.read(outcomes[2])
    topic.read(JoinTimeout(request_id="r1", due=at(60)))

    (response,) = topic.responses
    assert (response.status, response.completed_at) == (status, at(60))
    assert response.ensemble is not None
    assert response.ensemble.missing == (2,)
    assert open_until(topic.state) is None


def test_a_timeout_without_an_open_join_is_nothing() -> None:
    """Neither before the request nor while a single call falls back."""
    topic = Topic()
    assert topic.read(JoinTimeout(request_id="r1", due=at(60))).state is None

    topic.read(make_outcome(make_call(plan=make_plan(2)), status="failed"))
    assert topic.read(JoinTimeout(request_id="r1", due=at(60))).response is None


def test_a_member_falls_back_on_its_own() -> None:
    """The others wait; the terminal record lists every attempt."""
    job, plan = make_job(), make_plan(2, 1)
    topic = Topic()
    topic.read(JoinOpened(job=job, plan=plan))
    decision = topic.read(make_outcome(make_call(job, plan, member=0), status="failed"))
    topic.read(make_outcome(make_call(job, plan, member=1), text="x", seconds=2))
    assert topic.responses == []

    topic.read(make_outcome(decision.calls[0], text="x", seconds=3))

    (response,) = topic.responses
    assert [(each.member, each.attempt) for each in response.attempts] == [(0, 1), (0, 2), (1, 1)]


def test_a_member_that_was_asked_again_lists_every_try() -> None:
    """The earlier ones had no outcome: they stand in the history of the call."""
    job, plan = make_job(), make_plan(1, 1)
    first = make_call(job, plan, member=0)
    failed = make_outcome(first, status="failed").summary()
    topic = Topic()
    topic.read(JoinOpened(job=job, plan=plan))
    topic.read(make_outcome(first.following(candidate=0, failed=failed), text="x"))
    topic.read(make_outcome(make_call(job, plan, member=1), text="x", seconds=2))

    (response,) = topic.responses
    assert [(each.member, each.attempt) for each in response.attempts] == [(0, 1), (0, 2), (1, 1)]


def test_a_member_quicker_than_the_announcement_opens_the_join() -> None:
    """Calls and announcement go to different topics."""
    opened, outcomes = members("a", "a")
    topic = Topic()
    topic.read(outcomes[0])
    assert topic.state is not None
    assert open_until(topic.state) == at(60)
    topic.read(opened)
    topic.read(outcomes[1])

    assert [each.status for each in topic.responses] == ["completed"]


def test_a_cancelled_member_cancels_the_request() -> None:
    """With the attempts of the others listed."""
    opened, outcomes = members("a", "a", "a")
    topic = Topic()
    for record in (opened, outcomes[0]):
        topic.read(record)
    topic.read(make_outcome(outcomes[1].call, status="cancelled", seconds=4))
    topic.read(outcomes[2])

    (response,) = topic.responses
    assert (response.status, len(response.attempts)) == ("cancelled", 2)


def test_a_cost_that_is_not_known_makes_the_sum_unknown() -> None:
    """Never a silent nothing."""
    job, plan = make_job(), make_plan(1, 1)
    topic = Topic()
    topic.read(make_outcome(make_call(job, plan, member=0), cost_usd=None, cost_source="unknown"))
    topic.read(make_outcome(make_call(job, plan, member=1), seconds=2))

    assert topic.responses[0].cost_usd is None


def refused(call: Call, *, seconds: float = 1) -> AttemptOutcome:
    """A call that a budget had no room for."""
    outcome = make_outcome(call, status="failed", seconds=seconds)
    return outcome.model_copy(update={"error": NO_ROOM, "usage": None, "cost_usd": None})


def test_a_call_that_a_budget_refused_goes_to_the_next_candidate() -> None:
    """Which may cost nothing."""
    topic = Topic()
    (following,) = topic.read(refused(make_call(plan=make_plan(2)))).calls
    topic.read(make_outcome(following, seconds=2))

    (response,) = topic.responses
    assert (response.status, following.budgets) == ("completed", ())


@pytest.mark.parametrize("last", ["refused", "down"])
def test_a_request_is_rejected_only_where_budgets_refused_every_attempt(last: str) -> None:
    """Where anything was asked, it has failed."""
    topic = Topic()
    (following,) = topic.read(refused(make_call(plan=make_plan(2)))).calls
    down = make_outcome(following, status="failed", seconds=2)
    topic.read(refused(following, seconds=2) if last == "refused" else down)

    (response,) = topic.responses
    assert response.status == ("rejected" if last == "refused" else "failed")
    assert response.error is not None
    assert (response.error.code == "budget_exceeded") is (last == "refused")


@pytest.mark.parametrize("last", ["refused", "down"])
def test_an_ensemble_is_rejected_only_where_budgets_refused_every_member(last: str) -> None:
    """Else its quorum was not reached."""
    topic = Topic()
    plan = make_plan(1, 1, quorum=2)
    topic.read(refused(make_call(plan=plan)))
    second = make_call(plan=plan, member=1)
    topic.read(refused(second) if last == "refused" else make_outcome(second, status="failed"))

    (response,) = topic.responses
    assert response.error is not None
    assert (response.status, response.error.code) == (
        ("rejected", "budget_exceeded") if last == "refused" else ("failed", "quorum_not_reached")
    )
