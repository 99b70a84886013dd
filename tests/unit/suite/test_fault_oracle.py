"""The judge of the fault runs finds what it is there to find."""

import json
from typing import Any

from aiokafka import TopicPartition
from harness import oracle
from harness.oracle import AtRisk, at_risk, in_flight_and_ended, paid_for_nothing
from harness.tape import Entry, Tape
from harness.watch import Commit
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streams.finished_ahead import encode, runs_of

DEATH = 100.0


def tape() -> Tape:
    """With nothing on it."""
    return Tape(bootstrap_servers="nowhere:1", prefix="t.", names=())


def keep(
    on: Tape, topic: str, offset: int, body: dict[str, Any], *, schema: str, at: float
) -> None:
    """Put a record on a tape."""
    value = json.dumps(body).encode()
    on.entries[topic].append(Entry(topic, 0, offset, round(at * 1000), schema, value, body))


def call(on: Tape, offset: int, request_id: str) -> dict[str, Any]:
    """Put a call on its topic."""
    body = {"job": {"request_id": request_id}, "member": 0, "attempt": 1}
    keep(on, "calls.openai", offset, body, schema="call", at=1.0)
    return body


def invoke(on: Tape, request_id: str, invocation: str, *, at: float, attempt: int = 1) -> None:
    """Let the ledger say that a call was made."""
    body = {
        "request_id": request_id,
        "member": 0,
        "attempt": attempt,
        "invocation": invocation,
        "row_id": f"{request_id}/0/{attempt}/{invocation}",
    }
    keep(on, "usage", len(on.entries["usage"]), body, schema="usage-event", at=at)


@given(done=st.lists(st.booleans(), min_size=1, max_size=60), first=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_it_reads_of_a_commit_what_callers_write(done: list[bool], first: int) -> None:
    """What it calls at risk is exactly what is not done."""
    found = tape()
    for number in range(len(done)):
        call(found, first + number, f"r{number}")
    records = [(first + number, each) for number, each in enumerate(done)]
    commit = (first, encode(first, runs_of(records)))

    risk = at_risk(found, {("calls.openai", 0): commit}, at=DEATH, prefix="t.")

    assert risk.records == {(f"r{number}", 0, 1) for number, each in enumerate(done) if not each}


def test_a_call_that_a_commit_had_called_done_may_not_be_paid_again() -> None:
    """However short the time since."""
    found = tape()
    invoke(found, "r0", "a", at=DEATH - 0.2)
    invoke(found, "r0", "b", at=DEATH + 5)

    assert paid_for_nothing(found, [AtRisk(DEATH, frozenset())], prefix="t.")
    assert not paid_for_nothing(found, [AtRisk(DEATH, frozenset({("r0", 0, 1)}))], prefix="t.")


def test_a_call_that_began_only_afterwards_may_not_be_paid_twice() -> None:
    """A process that woke up and began what another one had begun shows here."""
    found = tape()
    invoke(found, "r0", "a", at=DEATH + 4)
    invoke(found, "r0", "b", at=DEATH + 5)

    assert paid_for_nothing(found, [AtRisk(DEATH, frozenset({("r0", 0, 1)}))], prefix="t.")


def test_one_death_explains_one_more_call() -> None:
    """A third one needs a second death."""
    found = tape()
    for number, invocation in enumerate("abc"):
        invoke(found, "r0", invocation, at=DEATH - 1 + number)
    risk = AtRisk(DEATH, frozenset({("r0", 0, 1)}))

    assert paid_for_nothing(found, [risk], prefix="t.")
    assert not paid_for_nothing(found, [risk, AtRisk(DEATH + 0.5, risk.records)], prefix="t.")


def test_a_call_that_was_written_twice_may_be_made_twice_once_its_caller_has_died() -> None:
    """The router died before its input was committed; a caller that lives knows the call."""
    found = tape()
    for offset in (0, 1):
        call(found, offset, "r0")
    invoke(found, "r0", "a", at=DEATH - 1)
    invoke(found, "r0", "b", at=DEATH + 1)

    assert not paid_for_nothing(found, [AtRisk(DEATH, frozenset())], prefix="t.")
    assert paid_for_nothing(found, [AtRisk(DEATH + 3, frozenset())], prefix="t.")


def test_further_tries_made_in_a_record_s_place_are_at_risk_with_it() -> None:
    """They have no record of their own."""
    found = tape()
    invoke(found, "r0", "a", at=DEATH - 1, attempt=2)
    invoke(found, "r0", "b", at=DEATH + 1, attempt=2)

    assert not paid_for_nothing(found, [AtRisk(DEATH, frozenset({("r0", 0, 1)}))], prefix="t.")
    assert paid_for_nothing(found, [AtRisk(DEATH, frozenset({("r0", 0, 3)}))], prefix="t.")


def test_what_was_under_way_is_told_from_what_had_ended() -> None:
    """By the outcomes that lay there at the death."""
    found = tape()
    for offset, request_id in enumerate(("r0", "r1")):
        body = call(found, offset, request_id)
        invoke(found, request_id, request_id, at=DEATH - 1)
        if request_id == "r0":
            keep(found, "outcomes", 0, {"call": body}, schema="outcome", at=DEATH - 0.1)
    risk = at_risk(found, {}, at=DEATH, prefix="t.")

    assert in_flight_and_ended(found, risk) == (1, 1)


def test_a_commit_past_unfinished_work_is_found() -> None:
    """The call below the committed offset has no outcome when the commit is seen."""
    found = tape()
    body = call(found, 0, "r0")
    outcomes = TopicPartition("t.outcomes", 0)
    commit = Commit("t-caller-openai", TopicPartition("t.calls.openai", 0), 1, {outcomes: 1})
    check = oracle.nothing_committed_past_unfinished_work

    assert check(found, [commit], prefix="t.")

    keep(found, "outcomes", 1, {"call": body}, schema="outcome", at=DEATH)
    assert check(found, [commit], prefix="t."), "the outcome came after the commit"

    keep(found, "outcomes", 0, {"call": body}, schema="outcome", at=DEATH)
    assert not check(found, [commit], prefix="t.")
