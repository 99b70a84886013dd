"""A caller that was frozen for longer than its session, with calls that it had not begun."""

import asyncio
from pathlib import Path

import pytest
from harness import oracle
from harness.cluster import SESSION_SECONDS
from harness.load import Kind
from harness.setting import setting

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(180)]

SLOW = (Kind("slow", 1, "latency=1000 tokens=4", {"route": {"providers": ["openai"]}}),)
COUNT = 40
IN_FLIGHT = 4
ENTRIES = {
    "limits": {"in_flight": IN_FLIGHT},
    # What came while it was frozen is there when it wakes up, and makes room for more.
    "timeouts": {"connect": 30.0, "first_token": 30.0, "idle": 30.0},
}


async def test_what_it_had_not_begun_is_paid_once(tmp_path: Path, kafka_script: object) -> None:
    """Another process has taken over meanwhile; it wakes up with free places and waiting calls."""
    async with setting(tmp_path, seed=1, entries=ENTRIES) as running:
        cluster, tape = running.cluster, running.tape
        ids = await running.load.send(COUNT, kinds=SLOW)
        await tape.until(lambda: len(tape.ends) >= IN_FLIGHT, "the first ends")
        await running.freeze("caller")
        await cluster.add("caller", name="caller-second")
        begun = len(oracle.invocations(tape))
        await tape.until(lambda: len(oracle.invocations(tape)) > begun, "the second caller's calls")
        await asyncio.sleep(SESSION_SECONDS / 2)
        cluster.workers["caller"].thaw()
        await running.settled(ids)
        await cluster.remove("caller-second")

        wrong = await running.judge()

        assert not wrong, oracle.shown(wrong)
