"""A Kafka broker that needs nothing installed, in a child process.

What it can do and what not is in `docs/embedded-broker.md`.
"""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from pydantic import ValidationError

from millrace.schemas.errors import BrokerError
from millrace.streams.embedded.control import Declare, Declared, Started
from millrace.streams.embedded.state_file import (
    RunningBroker,
    find_running,
    remove_state,
    write_state,
)

KEEPS_NOTHING = (
    "The embedded broker keeps everything in memory, at most about 5 MB a partition, and nothing "
    "once it has stopped. For work that matters, set KAFKA_BOOTSTRAP_SERVERS; `make kafka` starts "
    "an Apache Kafka on this machine."
)
"""What whoever starts one has to tell the user."""

_STOP_SECONDS = 5.0


class EmbeddedBroker:
    """Starts the broker, declares topics on it, and ends it; an async context manager.

    It listens on 127.0.0.1, on `port`, or any free one for 0. With a `state_file`, other
    processes of the same user find it by `find_running`.

    The child ends when `stop` is called, and also when this process dies in any way. Topics
    must be declared before a client names them: a topic that a client asks for first comes into
    being with four partitions. Calls may overlap; the child answers them one at a time.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        state_file: Path | None = None,
        start_timeout_seconds: float = 20.0,
    ) -> None:
        self._port = port
        self._state_file = state_file
        self._start_timeout_seconds = start_timeout_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._running: RunningBroker | None = None
        self._turn = asyncio.Lock()
        self._topics: dict[str, int] = {}

    @property
    def bootstrap_servers(self) -> str:
        """`127.0.0.1:port`, on which it takes connections now."""
        return self._started().bootstrap_servers

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._started().pid

    @property
    def topics(self) -> Mapping[str, int]:
        """The declared topics and their partition counts."""
        return MappingProxyType(self._topics)

    async def start(self) -> None:
        """Return once the broker takes connections.

        Raises:
            BrokerError: It does not come up, or one that the state file names runs already.
        """
        if self._state_file and (other := find_running(self._state_file)):
            raise BrokerError(
                f"an embedded broker runs already at {other.bootstrap_servers} "
                f"(process {other.pid}); use that one, or stop it",
                retryable=False,
            )
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "millrace.streams.embedded.serve", str(self._port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C at a terminal must reach this process only, which then drains its clients.
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._start_timeout_seconds):
                line = await self._read_line()
            started = Started.model_validate_json(line)
            running = RunningBroker(
                bootstrap_servers=started.bootstrap_servers, pid=self._process.pid
            )
            if self._state_file:
                write_state(self._state_file, running)
        except TimeoutError as error:
            await self._end_process()
            raise BrokerError(
                f"the embedded broker did not start within {self._start_timeout_seconds} s"
            ) from error
        except BaseException:
            await self._end_process()
            raise
        self._running = running

    async def declare(self, topic: str, partitions: int) -> bool:
        """Make a topic; False when it was there before with as many partitions.

        Raises:
            BrokerError: It is there with another number of partitions, its name is not one that
                Kafka allows, or the broker has ended.
        """
        self._started()
        try:
            wish = Declare(topic=topic, partitions=partitions)
        except ValidationError as error:
            raise BrokerError(
                f"topic {topic!r} with {partitions} partitions cannot be made: names have 1 to "
                "249 of a-z A-Z 0-9 . _ - and topics 1 to 1000 partitions",
                retryable=False,
            ) from error
        async with self._turn:
            answer = await self._ask(wish)
        if answer.error is not None:
            raise BrokerError(answer.error, retryable=False)
        self._topics[topic] = partitions
        return answer.created

    async def stop(self) -> None:
        """End the broker; all it held is gone. Harmless when repeated."""
        if self._running and self._state_file:
            remove_state(self._state_file, self._running)
        self._running = None
        await self._end_process()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _started(self) -> RunningBroker:
        if self._running is None:
            raise BrokerError("the embedded broker is not running; start it first")
        return self._running

    async def _ask(self, wish: Declare) -> Declared:
        if self._process is None or self._process.stdin is None:
            raise BrokerError("the embedded broker is not running; start it first")
        try:
            self._process.stdin.write(wish.model_dump_json().encode() + b"\n")
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise BrokerError("the embedded broker has ended") from error
        while True:
            answer = Declared.model_validate_json(await self._read_line())
            # Another topic's answer was meant for a caller that was cancelled while it waited.
            if answer.topic == wish.topic:
                return answer

    async def _read_line(self) -> bytes:
        if self._process is None or self._process.stdout is None:
            raise BrokerError("the embedded broker is not running; start it first")
        line = await self._process.stdout.readline()
        if not line:
            code = await self._process.wait()
            raise BrokerError(f"the embedded broker has ended with exit code {code}")
        return line

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
