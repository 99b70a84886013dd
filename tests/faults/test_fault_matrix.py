"""Every fault once, each crash point once, on one pipeline of processes under load.

`make faults` draws from the same faults at random for as long as one likes.
"""

import os
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness import oracle
from harness.catalogue import SHORT
from harness.crash import ROUNDS, Crash, crash
from harness.fault import Fault, inject
from harness.setting import Setting, setting

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    # It keeps two cores busy, and would make those beside it slow.
    pytest.mark.alone,
    pytest.mark.asyncio(loop_scope="module"),
    # Waits last as long as anything moves, so this is for what goes on for ever.
    pytest.mark.timeout(300),
]

SEED = int(os.environ.get("MILLRACE_FAULTS_SEED", "2"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    tmp_path_factory: pytest.TempPathFactory, kafka_script: object
) -> AsyncIterator[Setting]:
    """A pipeline that lives through the whole matrix."""
    async with setting(tmp_path_factory.mktemp("faults"), seed=SEED) as found:
        yield found


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def whole(running: Setting) -> AsyncIterator[None]:
    """What one fault has left broken is its own failure, and not the next one's."""
    yield
    left = await running.made_whole()
    assert not left, oracle.shown(left)


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
async def test_nothing_is_lost(running: Setting, fault: Fault) -> None:
    """Each request that was sent meanwhile ends once and well, with a whole stream."""
    await inject(running, fault)


@pytest.mark.parametrize("cases", ROUNDS.values(), ids=ROUNDS)
async def test_a_death_in_a_narrow_window_tears_nothing_apart(
    running: Setting, cases: tuple[Crash, ...]
) -> None:
    """Each process dies exactly there; the next one goes on from what the topics hold."""
    await crash(running, *cases)


async def test_the_books_and_everything_else_are_right_in_the_end(running: Setting) -> None:
    """Ends, streams, ledger, ClickHouse, commits, lag, progress, memory, secrets."""
    assert running.load.sent, "the faults have not been injected"

    wrong = await running.judge()

    at_risk = [oracle.in_flight_and_ended(death) for death in running.deaths]
    again = sum(oracle.paid_twice(running.tape).values())
    sys.stdout.write(f"paid again: {again}; in flight, ended uncommitted at deaths: {at_risk}\n")
    assert not wrong, oracle.shown(wrong)
