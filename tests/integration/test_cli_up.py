"""`millrace up` as a process: new settings at a hangup, its question, and a replay beside it."""

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from broker_under_test import BrokerUnderTest
from pipeline_process import RoleProcess, toml
from pipeline_topics import PipelineTopics
from pipeline_under_test import (
    client_producer,
    eventually,
    pipeline_settings,
    request_body,
    send_request,
)

from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import SimulatorSettings
from millrace.streams.cli import exits
from millrace.streams.topics import TopicNames

MILLRACE = Path(sys.executable).with_name("millrace")
SECONDS = 60.0
ROLES = "router,caller,validator,sink"


@dataclass
class Background:
    """A whole pipeline in a process of its own, and a client's view of it."""

    process: RoleProcess
    topics: PipelineTopics
    config: Path
    tree: dict[str, Any]
    producer: Any
    requests: str

    async def ask(self, request_id: str, **fields: Any) -> None:
        """Send a request and wait for its end."""
        await send_request(self.producer, self.requests, request_body(request_id, **fields))
        assert (await self.topics.response(request_id)).status == "completed"

    async def hang_up(self, saying: str, **sections: Any) -> None:
        """Write new settings, send SIGHUP, and wait for what the log says of them."""
        self.config.write_text(toml({**self.tree, **sections}))
        pid = self.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGHUP)

        async def told() -> bool:
            return any(saying in line for line in self.process.said)

        await eventually(told, f"{saying} in the log")

    async def run(self, *arguments: str) -> tuple[int, bytes, str]:
        """Run `millrace` with the same settings, to its end."""
        process = await asyncio.create_subprocess_exec(
            *(str(MILLRACE), *arguments, "--config", str(self.config)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environ(),
        )
        async with asyncio.timeout(SECONDS):
            out, told = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out, told.decode()


def environ() -> dict[str, str]:
    """Of a shell in which nothing is set for the program."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}


@asynccontextmanager
async def background(broker: BrokerUnderTest, folder: Path) -> AsyncIterator[Background]:
    """Run it until the end of the block, and see it end well."""
    async with (
        Simulator(SimulatorSettings(answer_tokens=(12, 12))) as playing,
        client_producer(broker) as producer,
    ):
        tree = pipeline_settings(
            broker,
            playing.url,
            folder,
            log={"level": "info"},
            reload={"poll_seconds": 0},
            routes={"default": {"candidates": ["openai/gpt-4.1-mini"]}},
        )
        process = RoleProcess(tree, folder=folder, roles=ROLES, name="up")
        async with process, PipelineTopics(broker.settings) as topics:
            yield Background(
                process=process,
                topics=topics,
                config=folder / "up.toml",
                tree=tree,
                producer=producer,
                requests=TopicNames(broker.settings.topic_prefix).requests,
            )


@pytest.mark.kafka
async def test_a_hangup_brings_new_settings_to_a_running_process(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """It goes on in the same process, with bad ones as before and with good ones anew."""
    async with background(real_broker, tmp_path) as running:
        pid = running.process.pid
        await running.ask("before")
        await running.hang_up("config.refused", routes={"default": {"colour": "blue"}})
        await running.ask("refused")
        await running.hang_up(
            "config.reloaded", routes={"default": {"candidates": ["anthropic/claude-haiku-4-5"]}}
        )
        await running.ask("after")

        ended = running.topics.responses
        assert [ended[each][0].provider for each in ("before", "refused", "after")] == [
            "openai",
            "openai",
            "anthropic",
        ]
        assert any("routes.default.colour" in line for line in running.process.said)
        assert running.process.pid == pid


@pytest.mark.kafka
async def test_a_replay_waits_to_its_end_and_sets_both_side_by_side(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """As a table for people and as a document for programs, from the store that `up` holds."""
    async with background(real_broker, tmp_path) as running:
        for number in range(3):
            await running.ask(f"original-{number}", simulate='answer="the same"')
        replay = ("replay", "--from", "1h", "--provider", "anthropic", "--replay-id", "try")
        code, table, told = await running.run(*replay, "--wait", "--timeout", "30")
        again_code, again, again_told = await running.run(*replay, "--wait", "--json")

    assert code == exits.FINE, told
    shown = table.decode()
    assert "Sent 3 request(s)." in shown
    assert "3 results, 3 with the same text" in shown
    for number in range(3):
        (row,) = [line for line in shown.splitlines() if f"original-{number}" in line]
        assert "gpt-4.1-mini → claude-haiku-4-5" in row
        assert row.rstrip().endswith("yes")
    assert again_code == exits.FINE, again_told
    document = orjson.loads(again)
    assert (document["requests"], document["left_out"]["sent before"]) == (0, 3)
    assert document["missing"] == []
    assert document["summary"]["same_text"] == 3
    assert {row["replay_status"] for row in document["results"]} == {"completed"}


@pytest.mark.kafka
async def test_a_replay_that_does_not_end_in_time_says_so(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """With what has ended beside the originals, and an exit code that tells."""
    async with background(real_broker, tmp_path) as running:
        await running.ask("quick")
        await running.ask("slow", simulate="hang only=anthropic")
        code, table, told = await running.run(
            *("replay", "--from", "1h", "--provider", "anthropic", "--wait", "--timeout", "3")
        )

    assert code == exits.FAILED
    assert "1 results" in table.decode()
    assert "1 request(s) have not ended yet" in told


class Terminal:
    """A program whose terminal a test holds."""

    def __init__(self, process: asyncio.subprocess.Process, held: int) -> None:
        self.process = process
        self._held = held
        self._shown = b""
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(held, self._read)

    async def shows(self, text: str) -> None:
        """Wait until it has been written."""
        async with asyncio.timeout(SECONDS):
            while text.encode() not in self._shown:
                self._changed.clear()
                await self._changed.wait()

    def type(self, text: str) -> None:
        """As from the keyboard; Ctrl-C is the character 3."""
        os.write(self._held, text.encode())

    async def ended(self) -> int:
        """Its exit code."""
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()

    def _read(self) -> None:
        try:
            some = os.read(self._held, 65_536)
        except OSError:
            # Linux says so when the last program has closed it.
            some = b""
        if not some:
            asyncio.get_running_loop().remove_reader(self._held)
        self._shown += some
        self._changed.set()


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    """`millrace up` on a terminal, with providers and no broker."""
    tree: Mapping[str, Any] = {
        "data_folder": str(tmp_path / "data"),
        "clickhouse": {"url": f"chdb://{tmp_path / 'clickhouse'}"},
        "web": {"port": 0},
        "providers": {
            "ollama": {
                "wire": "ollama",
                "base_url": "http://127.0.0.1:9",
                "models": {"llama3.2": {}},
            }
        },
    }
    config = tmp_path / "millrace.toml"
    config.write_text(toml(tree))
    held, given = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(str(MILLRACE), "up", "--config", str(config)),
        stdin=given,
        stdout=given,
        stderr=given,
        env={**environ(), "TERM": "xterm"},
        preexec_fn=_with_a_terminal,
    )
    os.close(given)
    shown = Terminal(process, held)
    yield shown
    if process.returncode is None:
        process.kill()
        await process.wait()
    asyncio.get_running_loop().remove_reader(held)
    os.close(held)


def _with_a_terminal() -> None:
    """Make standard input the terminal of a session of its own, so that Ctrl-C is a signal."""
    os.login_tty(0)


@pytest.mark.parametrize("answer", ["\r", "y\r"])
async def test_up_offers_the_embedded_broker_on_a_terminal(terminal: Terminal, answer: str) -> None:
    """Taken by Enter alone, it runs; the status line is there, and Ctrl-C ends it well."""
    await terminal.shows("No Kafka broker is configured.")
    await terminal.shows("Start the embedded one? [Y/n]:")
    terminal.type(answer)
    await terminal.shows("Ready.")
    terminal.type("\x03")
    await terminal.shows("Stopping: finishing what is under way.")

    assert await terminal.ended() == exits.FINE


async def test_up_takes_no_for_an_answer(terminal: Terminal) -> None:
    """It says what to set instead, and starts nothing."""
    await terminal.shows("Start the embedded one?")
    terminal.type("n\r")
    await terminal.shows("KAFKA_BOOTSTRAP_SERVERS=host:port")

    assert await terminal.ended() == exits.USAGE
