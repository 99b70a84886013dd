"""The judge of the fault runs finds what it is there to find."""

import json
from typing import Any

import pytest
from aiokafka import TopicPartition
from harness import oracle
from harness.oracle import at_risk, in_flight_and_ended, paid_for_nothing
from harness.tape import Entry, Tape
from harness.watch import Commit
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streams.finished_ahead import encode, runs_of


def tape() -> Tape:
    """With nothing on it."""
    return Tape(bootstrap_servers="nowhere:1", prefix="t.", names=())


def keep(on: Tape, topic: str, offset: int, body: dict[str, Any], *, schema: str) -> None:
    """Put a record on a tape."""
    value = json.dumps(body).encode()
    on.entries[topic].append(Entry(topic, 0, offset, 0, schema, value, body))


def call(on: Tape, offset: int, request_id: str, *, attempt: int = 1) -> dict[str, Any]:
    """Put a call on its topic."""
    body = {"job": {"request_id": request_id}, "member": 0, "attempt": attempt}
    keep(on, "calls.openai", offset, body, schema="call")
    return body


def invoke(on: Tape, request_id: str, invocation: str, *, attempt: int = 1) -> None:
    """Let the ledger say that a call was made."""
    body = {
        "request_id": request_id,
        "member": 0,
        "attempt": attempt,
        "invocation": invocation,
        "row_id": f"{request_id}/0/{attempt}/{invocation}",
    }
    keep(on, "usage", len(on.entries["usage"]), body, schema="usage-event")


@given(done=st.lists(st.booleans(), min_size=1, max_size=60), first=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_it_reads_of_a_commit_what_callers_write(done: list[bool], first: int) -> None:
    """What it calls at risk is exactly what is not done."""
    found = tape()
    for number in range(len(done)):
        call(found, first + number, f"r{number}")
    records = [(first + number, each) for number, each in enumerate(done)]
    commit = (first, encode(first, runs_of(records)))

    risk = at_risk(found, {("calls.openai", 0): commit}, prefix="t.")

    assert risk.records == {(f"r{number}", 0, 1) for number, each in enumerate(done) if not each}


def test_a_call_that_a_commit_had_called_done_may_not_be_paid_again() -> None:
    """However short the time since."""
    found = tape()
    call(found, 0, "r0")
    invoke(found, "r0", "a")
    uncommitted = at_risk(found, {}, prefix="t.")
    committed = at_risk(found, {("calls.openai", 0): (1, "")}, prefix="t.")
    invoke(found, "r0", "b")

    assert paid_for_nothing(found, [committed], prefix="t.")
    assert not paid_for_nothing(found, [uncommitted], prefix="t.")


def test_a_call_that_began_only_afterwards_may_not_be_paid_twice() -> None:
    """A process that woke up and began what another one had begun shows here."""
    found = tape()
    call(found, 0, "r0")
    death = at_risk(found, {}, prefix="t.")
    invoke(found, "r0", "a")
    invoke(found, "r0", "b")

    assert paid_for_nothing(found, [death], prefix="t.")


@pytest.mark.parametrize(("asked", "explained"), [(1, True), (2, False)])
def test_what_was_reserved_and_never_sent_is_not_paid(asked: int, explained: bool) -> None:
    """The simulator knows how often it was asked."""
    found = tape()
    call(found, 0, "r0")
    invoke(found, "r0", "a")
    invoke(found, "r0", "b")

    wrong = paid_for_nothing(found, [], prefix="t.", asked={"r0": asked})

    assert (not wrong) is explained


def test_one_death_explains_one_more_call() -> None:
    """A third one needs a second death."""
    found = tape()
    call(found, 0, "r0")
    deaths = []
    for invocation in "ab":
        invoke(found, "r0", invocation)
        deaths.append(at_risk(found, {}, prefix="t."))
    invoke(found, "r0", "c")

    assert paid_for_nothing(found, deaths[:1], prefix="t.")
    assert not paid_for_nothing(found, deaths, prefix="t.")


def test_a_call_that_was_written_twice_may_be_made_twice_once_its_caller_has_died() -> None:
    """The router died before its input was committed; a caller that lives knows the call."""
    found = tape()
    for offset in (0, 1):
        call(found, offset, "r0")
    done = {("calls.openai", 0): (2, "")}
    before = at_risk(found, done, prefix="t.")
    invoke(found, "r0", "a")
    between = at_risk(found, done, prefix="t.")
    invoke(found, "r0", "b")
    after = at_risk(found, done, prefix="t.")

    assert not paid_for_nothing(found, [between], prefix="t.")
    assert paid_for_nothing(found, [before, after], prefix="t.")


@pytest.mark.parametrize(("first", "explained"), [(1, True), (3, False)])
def test_further_tries_made_in_a_record_s_place_are_at_risk_with_it(
    first: int, explained: bool
) -> None:
    """They have no record of their own."""
    found = tape()
    call(found, 0, "r0", attempt=first)
    invoke(found, "r0", "a", attempt=2)
    death = at_risk(found, {}, prefix="t.")
    invoke(found, "r0", "b", attempt=2)

    assert (not paid_for_nothing(found, [death], prefix="t.")) is explained


def test_what_was_under_way_is_told_from_what_had_ended() -> None:
    """By the outcomes that lay there at the death."""
    found = tape()
    for offset, request_id in enumerate(("r0", "r1")):
        body = call(found, offset, request_id)
        invoke(found, request_id, request_id)
        if request_id == "r0":
            keep(found, "outcomes", 0, {"call": body}, schema="outcome")

    assert in_flight_and_ended(at_risk(found, {}, prefix="t.")) == (1, 1)


def test_a_commit_past_unfinished_work_is_found() -> None:
    """The call below the committed offset has no outcome when the commit is seen."""
    found = tape()
    body = call(found, 0, "r0")
    outcomes = TopicPartition("t.outcomes", 0)
    commit = Commit("t-caller-openai", TopicPartition("t.calls.openai", 0), 1, {outcomes: 1})
    check = oracle.nothing_committed_past_unfinished_work

    assert check(found, [commit], prefix="t.")

    keep(found, "outcomes", 1, {"call": body}, schema="outcome")
    assert check(found, [commit], prefix="t."), "the outcome came after the commit"

    keep(found, "outcomes", 0, {"call": body}, schema="outcome")
    assert not check(found, [commit], prefix="t.")
