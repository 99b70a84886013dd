"""The embedded broker's life: it starts, is found, and never outlives its parent."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.schemas.errors import BrokerError
from millrace.streams.embedded.broker import EmbeddedBroker
from millrace.streams.embedded.state_file import find_running

PARENT = """
import asyncio, sys
from pathlib import Path
from millrace.streams.embedded.broker import EmbeddedBroker

async def main():
    async with EmbeddedBroker(state_file=Path(sys.argv[1])) as broker:
        print(broker.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def lives(pid: int) -> bool:
    """True while a process runs; one that ended and waits to be collected does not."""
    asked = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(asked.stdout.strip()) and not asked.stdout.startswith("Z")


async def until_gone(pid: int) -> None:
    """Return once the process has ended."""
    async with asyncio.timeout(15):
        while lives(pid):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.05)


async def until_not_found(state_file: Path) -> None:
    """Return once the file no longer leads to a broker."""
    async with asyncio.timeout(15):
        while find_running(state_file):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.05)


async def test_it_starts_and_stops() -> None:
    """Inside the block it listens; after it the child is gone and the object says so."""
    async with EmbeddedBroker() as broker:
        pid = broker.pid
        host, _, port = broker.bootstrap_servers.partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
    assert host == "127.0.0.1"
    assert not lives(pid)
    with pytest.raises(BrokerError, match="not running"):
        _ = broker.bootstrap_servers


async def test_it_listens_on_the_port_it_is_given(tmp_path: Path) -> None:
    """And says so when somebody else does."""
    async with EmbeddedBroker() as first:
        port = int(first.bootstrap_servers.rpartition(":")[2])
        with pytest.raises(BrokerError, match="has ended with exit code 1"):
            await EmbeddedBroker(port=port).start()
    async with EmbeddedBroker(port=port) as second:
        assert second.bootstrap_servers == f"127.0.0.1:{port}"


async def test_a_topic_is_declared_once() -> None:
    """Again with as many partitions is nothing; with another number is an error."""
    async with EmbeddedBroker() as broker:
        assert await broker.declare("t", 3)
        assert not await broker.declare("t", 3)
        with pytest.raises(BrokerError, match="has 3 partitions, not 4"):
            await broker.declare("t", 4)
        with pytest.raises(BrokerError, match="names have"):
            await broker.declare("no spaces", 1)

        assert broker.topics == {"t": 3}


async def test_topics_may_be_declared_at_once() -> None:
    """Each caller gets its own answer."""
    async with EmbeddedBroker() as broker:
        created = await asyncio.gather(*(broker.declare(f"t{n % 5}", 1) for n in range(20)))

    assert sum(created) == 5


async def test_a_cancelled_declaration_does_not_mix_up_answers() -> None:
    """The answer that nobody waited for is not taken for another's."""
    async with EmbeddedBroker() as broker:
        given_up = asyncio.ensure_future(broker.declare("first", 2))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)

        assert await broker.declare("second", 3)
        with pytest.raises(BrokerError, match="has 3 partitions"):
            await broker.declare("second", 4)


async def test_it_is_found_through_its_state_file(tmp_path: Path) -> None:
    """While it runs; the file is the owner's alone, and goes with it."""
    state_file = tmp_path / "deep" / "broker.json"
    async with EmbeddedBroker(state_file=state_file) as broker:
        found = find_running(state_file)
        running = (broker.bootstrap_servers, broker.pid)
        mode = state_file.stat().st_mode & 0o777
        with pytest.raises(BrokerError, match="runs already"):
            await EmbeddedBroker(state_file=state_file).start()

    assert found is not None
    assert (found.bootstrap_servers, found.pid) == running
    assert mode == 0o600
    assert not state_file.exists()


async def test_a_broker_that_died_is_not_found(tmp_path: Path) -> None:
    """A stale file is no broker, and the next one takes its place."""
    state_file = tmp_path / "broker.json"
    async with EmbeddedBroker(state_file=state_file) as broker:
        os.kill(broker.pid, signal.SIGKILL)
        await until_not_found(state_file)
        async with EmbeddedBroker(state_file=state_file) as next_one:
            assert find_running(state_file) is not None
            assert await next_one.declare("t", 1)
        with pytest.raises(BrokerError, match="has ended"):
            await broker.declare("t", 1)


async def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Kill -9 of the parent leaves no broker behind."""
    state_file = tmp_path / "broker.json"
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(state_file), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert lives(pid)
    parent.kill()
    await parent.wait()

    await until_gone(pid)
    assert find_running(state_file) is None


async def test_ctrl_c_does_not_end_it() -> None:
    """The parent drains its clients first, and needs it for that."""
    async with EmbeddedBroker() as broker:
        os.kill(broker.pid, signal.SIGINT)
        assert await broker.declare("t", 1)
