"""A command with everything that it starts: begun together, and ended together."""

import asyncio
import os
import signal
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self, cast

_STDERR_KEPT_BYTES = 2**14
_READ_BYTES = 2**16
_KILL_WAIT_SECONDS = 2.0
"""How long a killed process may take to be gone; only one that waits for a broken disk does."""


class ProcessGroup:
    """A running command, the leader of a session of its own.

    Its error output is read all the time, so that it never blocks on it; the beginning is kept.
    Give it up with `stop`, in whatever way it ended: it may have left processes behind.
    """

    def __init__(self, process: Process, transport: asyncio.SubprocessTransport) -> None:
        self._process = process
        self._transport = transport
        self._stderr = bytearray()
        self._draining = asyncio.create_task(self._drain_stderr())

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        cwd: Path | None,
        environ: Mapping[str, str],
        stdin: bytes,
    ) -> Self:
        """Run the command and hand it its input, which ends there.

        Raises:
            OSError: It cannot be run.
        """
        loop = asyncio.get_running_loop()
        # As asyncio.create_subprocess_exec does it; that one hides the transport, which alone
        # can let go of pipes that a process outside the group still holds.
        transport, protocol = await loop.subprocess_exec(
            lambda: SubprocessStreamProtocol(limit=_READ_BYTES, loop=loop),
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd,
            env=dict(environ),
            start_new_session=True,
        )
        process = Process(transport, protocol, loop)
        group = cls(process, transport)
        writer = cast("asyncio.StreamWriter", process.stdin)
        # Not waited for: a command that does not read its input must not hold us up, and one
        # that ends without reading it says so by its exit.
        writer.write(stdin)
        writer.close()
        return group

    @property
    def pid(self) -> int:
        """The leader's process id, and the group's."""
        return self._process.pid

    @property
    def stderr(self) -> str:
        """The beginning of the error output so far."""
        return self._stderr.decode("utf-8", "replace")

    async def read(self) -> bytes:
        """The next piece of the output; empty at its end."""
        return await cast("asyncio.StreamReader", self._process.stdout).read(_READ_BYTES)

    async def wait(self, *, seconds: float) -> int | None:
        """The exit code, with the error output read to its end; None if it still runs then."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._draining)
                return await self._process.wait()
        except TimeoutError:
            return self._process.returncode

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            # Gone. macOS says that it is not permitted where only zombies are left.
            return

    async def stop(self, *, grace_seconds: float) -> None:
        """Ask the group to end, and after the grace kill what is left of it.

        When cancelled it kills at once; nothing of the group is left in either case.
        """
        try:
            if self._process.returncode is None:
                self.signal(signal.SIGTERM)
                await self._until_gone(grace_seconds)
        finally:
            self.signal(signal.SIGKILL)
            self._draining.cancel()
            try:
                await self._until_gone(_KILL_WAIT_SECONDS)
            finally:
                self._transport.close()

    async def _until_gone(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            return

    async def _drain_stderr(self) -> None:
        stderr = cast("asyncio.StreamReader", self._process.stderr)
        while piece := await stderr.read(_READ_BYTES):
            free = _STDERR_KEPT_BYTES - len(self._stderr)
            self._stderr += piece[:free] if free > 0 else b""
