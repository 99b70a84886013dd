"""Members that come and go, and a deploy: nobody is paid twice, nothing fails, it ends in time."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness import oracle
from harness.cluster import DRAIN_SECONDS
from harness.fault import all_of, under_way
from harness.load import Kind
from harness.outside import ROLES
from harness.setting import Setting, setting

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
]

_VOTE = {"strategy": "ensemble", "providers": ["openai", "anthropic", "gemini"], "quorum": 2}
_OPENAI = {"route": {"providers": ["openai"]}}
KINDS = (
    Kind("quick", 4, fields=_OPENAI),
    Kind("slow", 4, "latency=900 tokens=12 pace=40", {"stream": True}),
    Kind("voted", 2, 'answer="yes" latency=300', {"route": _VOTE}),
)
"""Nothing goes wrong with them, so that each call is paid exactly once; most last a second."""
PER_SECOND = 15.0
END_SECONDS = 6.0
"""Beyond the time that calls have to end: to commit, to leave the groups, to end."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    tmp_path_factory: pytest.TempPathFactory, kafka_script: object
) -> AsyncIterator[Setting]:
    """A pipeline of a process for each role."""
    async with setting(tmp_path_factory.mktemp("deploys"), seed=1) as found:
        yield found


async def all_ended_once_and_were_paid_once(running: Setting, ids: list[str]) -> None:
    """Each as completed; no call was paid twice, also not one that a later call made needless."""
    await running.settled(ids)

    tape = running.tape
    assert {each: len(tape.ends[each]) for each in ids} == dict.fromkeys(ids, 1)
    assert {tape.ends[each][0]["status"] for each in ids} == {"completed"}
    twice = {
        attempt: count
        for attempt, count in oracle.paid_twice(tape).items()
        if attempt.split("/")[0] in ids
    }
    assert not twice, f"paid twice: {twice}"


async def test_members_that_come_and_go_pay_nothing_twice(running: Setting) -> None:
    """From one caller to two and back to one, and so for the other roles."""
    before = len(running.load.sent)
    loading = asyncio.create_task(running.load.send(360, kinds=KINDS, per_second=PER_SECOND))
    try:
        await under_way(running, before)
        await all_of(*(_comes(running, role) for role in ROLES))
        await all_of(*(_goes(running, role) for role in ROLES))
    finally:
        ids = await loading
    await all_ended_once_and_were_paid_once(running, ids)


async def test_a_rolling_restart_fails_and_repeats_nothing(running: Setting) -> None:
    """The new process of each role starts before the old one is told to stop, role by role."""
    before = len(running.load.sent)
    drained: dict[str, float] = {}
    loading = asyncio.create_task(running.load.send(600, kinds=KINDS, per_second=PER_SECOND))
    try:
        await under_way(running, before)
        for role in ROLES:
            await running.cluster.add(role, name=f"{role}-new")
            drained[role] = await running.cluster.remove(role)
    finally:
        ids = await loading
    await all_ended_once_and_were_paid_once(running, ids)

    assert max(drained.values()) < DRAIN_SECONDS, drained
    wrong = await running.judge()
    assert not wrong, oracle.shown(wrong)


async def test_a_call_that_does_not_end_holds_no_restart_up(running: Setting) -> None:
    """It is broken off when its time is over, booked, and made again by the next process."""
    endless = Kind("endless", 1, "tokens=80 pace=2 times=1", {"stream": True, **_OPENAI})
    (caller,) = (name for name in running.cluster.workers if name.startswith("caller"))
    ids = await running.load.send(3, kinds=(endless,))

    def begun() -> bool:
        chunks = running.tape.entries["chunks"]
        return {each.body["request_id"] for each in chunks}.issuperset(ids)

    await running.tape.until(begun, "the first tokens")
    drained = await running.cluster.remove(caller)
    await running.note_death(caller)
    await running.cluster.add("caller", name="caller-last")
    await running.settled(ids)

    assert DRAIN_SECONDS <= drained < DRAIN_SECONDS + END_SECONDS
    again = oracle.paid_twice(running.tape)
    assert {attempt.split("/")[0] for attempt in again} >= set(ids)


async def _comes(running: Setting, role: str) -> None:
    await running.cluster.add(role, name=f"{role}-guest")


async def _goes(running: Setting, role: str) -> None:
    await running.cluster.remove(f"{role}-guest")
