"""A TCP proxy that misbehaves as networks do."""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

_PIECE = 64 * 1024
_PIECES_UNDER_WAY = 256
_LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Link:
    """A client's connection and ours to the server behind it."""

    writers: list[asyncio.StreamWriter]
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    dead: bool = False
    """Nothing goes through it any more, and neither end hears why."""


class TcpProxy:
    """Passes connections on to a server until told to do worse.

    Each fault holds until `heal`; `heal` brings nothing back that was lost.
    """

    def __init__(self, *, upstream_port: int, port: int = 0) -> None:
        self._upstream_port = upstream_port
        self.port = port
        self._delay: Callable[[], float] = lambda: 0.0
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.outage()

    def latency(self, delay: Callable[[], float]) -> None:
        """Hold each piece back so many seconds, in order, in both directions."""
        self._delay = delay

    def reset(self) -> None:
        """Break every connection off, as by RST."""
        for link in list(self._links):
            self._abort(link)

    def half_open(self) -> int:
        """Let every connection go dead: nothing arrives, nobody is told; new ones work.

        Returns how many.
        """
        for link in self._links:
            link.dead = True
        return len(self._links)

    async def outage(self) -> None:
        """Break everything off and take no new connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=5)

    async def heal(self) -> None:
        """Take connections and pass them on at once."""
        self._delay = lambda: 0.0
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link([writer])
        self._links.add(link)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            self._abort(link)
            return
        link.writers.append(up_writer)
        link.tasks += [
            asyncio.create_task(self._pass_on(link, reader, up_writer)),
            asyncio.create_task(self._pass_on(link, up_reader, writer)),
        ]
        for task in link.tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        lane = _Lane(link, writer)
        delivering = asyncio.create_task(lane.deliver())
        try:
            while piece := await reader.read(_PIECE):
                delay = self._delay()
                if delay or lane.waiting:
                    await lane.put(loop.time() + delay, piece)
                elif not link.dead:
                    writer.write(piece)
                    await writer.drain()
            await lane.put(loop.time(), b"")
            await delivering
        except OSError:
            pass
        finally:
            delivering.cancel()
            await asyncio.wait((delivering,))
            if not link.dead:
                self._abort(link, gently=True)

    def _abort(self, link: _Link, *, gently: bool = False) -> None:
        self._links.discard(link)
        for writer in link.writers:
            connection: Any = writer.get_extra_info("socket")
            if not gently and connection is not None and connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            writer.close() if gently else writer.transport.abort()
        if not gently:
            for task in link.tasks:
                task.cancel()


class _Lane:
    """Pieces that are held back, in order."""

    def __init__(self, link: _Link, writer: asyncio.StreamWriter) -> None:
        self._link = link
        self._writer = writer
        self._due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES_UNDER_WAY)
        self.waiting = 0

    async def put(self, at: float, piece: bytes) -> None:
        """Pass it on at that time, not before those that came earlier; an empty one ends it."""
        self.waiting += 1
        await self._due.put((at, piece))

    async def deliver(self) -> None:
        """Pass on what is due until the end."""
        loop = asyncio.get_running_loop()
        while True:
            at, piece = await self._due.get()
            if (wait := at - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not piece:
                return
            if not self._link.dead:
                try:
                    self._writer.write(piece)
                    await self._writer.drain()
                except OSError:
                    return
            self.waiting -= 1
