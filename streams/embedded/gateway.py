"""Stands between clients and the mock cluster, which does three things otherwise than Kafka.

- It answers an empty fetch after the whole wait that the client allows, even when a record comes
  in meanwhile. Here the fetch is put again as soon as somebody writes to one of its topics.
- It ends a group's sync with the leader's request, and refuses members that come after it with
  an error that clients do not expect. Here the leader's request waits for the others'.
- It answers producers that asked for no acknowledgement. Here that answer is dropped.
"""

import asyncio
import struct
from collections import defaultdict
from dataclasses import dataclass, field

from millrace.streams.embedded import wire

LOOPBACK = "127.0.0.1"

_SIZE = struct.Struct(">i")
_MAX_FRAME_BYTES = 100 * 1024 * 1024
"""What Kafka takes by default (`socket.request.max.bytes`)."""

_SYNC_WAIT_SECONDS = 5.0
_SYNC_SETTLE_SECONDS = 0.02
"""The cluster reads the members' connections in no order; this lets it take in the last."""


class _Connection:
    """One client's connection to the cluster: a request, then its reply."""

    __slots__ = ("_reader", "_writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes | None:
        """The next frame, or None when the other side has closed or sends no frames."""
        try:
            (size,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
            if not 0 < size <= _MAX_FRAME_BYTES:
                return None
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def write(self, frame: bytes) -> None:
        self._writer.write(_SIZE.pack(len(frame)) + frame)
        await self._writer.drain()

    async def exchange(self, frame: bytes) -> bytes:
        """Send a request and return its reply.

        Raises:
            ConnectionError: The other side has closed.
        """
        await self.write(frame)
        reply = await self.read()
        if reply is None:
            raise ConnectionResetError("the other side has closed the connection")
        return reply

    def close(self) -> None:
        self._writer.close()


@dataclass(slots=True)
class _Sync:
    """Who has asked to be synced in a generation of a group."""

    generation: int
    members: set[str] = field(default_factory=set)
    grown: asyncio.Event = field(default_factory=asyncio.Event)


class Gateway:
    """Listens on loopback and passes requests on to the cluster, each connection in order."""

    def __init__(self, *, cluster_port: int) -> None:
        self._cluster_port = cluster_port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._syncs: dict[str, _Sync] = {}

    async def start(self, *, port: int = 0) -> int:
        """Listen on 127.0.0.1 and return the port; 0 takes any free one.

        Raises:
            OSError: The port is taken.
        """
        self._server = await asyncio.start_server(self._accept, LOOPBACK, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Take no more connections and end those that are open."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(_Connection(reader, writer)))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, client: _Connection) -> None:
        cluster: _Connection | None = None
        try:
            cluster = _Connection(*await asyncio.open_connection(LOOPBACK, self._cluster_port))
            while (frame := await client.read()) is not None:
                reply = await self._reply(frame, cluster)
                if reply is not None:
                    await client.write(reply)
        except (ConnectionError, struct.error, UnicodeDecodeError):
            # A broken or unreadable connection ends, as it does on Kafka; clients reconnect.
            pass
        finally:
            client.close()
            if cluster is not None:
                cluster.close()

    async def _reply(self, frame: bytes, cluster: _Connection) -> bytes | None:
        header = wire.read_header(frame)
        oldest, newest = wire.VERSIONS.get(header.api, (0, -1))
        if oldest <= header.version <= newest:
            if header.api == wire.FETCH:
                return await self._fetch(frame, header, cluster)
            if header.api == wire.PRODUCE:
                return await self._produce(frame, header, cluster)
            return await self._sync(frame, header, cluster)
        reply = await cluster.exchange(frame)
        if header.api == wire.END_TXN:
            self._wake(*self._waiting)
        return reply

    async def _fetch(self, frame: bytes, header: wire.Header, cluster: _Connection) -> bytes:
        request = wire.read_fetch(frame, header)
        at_once = wire.without_wait(frame, request)
        if request.min_bytes <= 0:
            return await cluster.exchange(at_once)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait_ms / 1000
        written = asyncio.Event()
        for topic in request.topics:
            self._waiting[topic].add(written)
        try:
            while True:
                written.clear()
                reply = await cluster.exchange(at_once)
                if wire.fetch_says_something(reply, header.version):
                    return reply
                try:
                    async with asyncio.timeout_at(deadline):
                        await written.wait()
                except TimeoutError:
                    return reply
        finally:
            for topic in request.topics:
                self._waiting[topic].discard(written)

    async def _produce(
        self, frame: bytes, header: wire.Header, cluster: _Connection
    ) -> bytes | None:
        request = wire.read_produce(frame, header)
        reply = await cluster.exchange(frame)
        self._wake(*request.topics)
        return reply if request.acks else None

    def _wake(self, *topics: str) -> None:
        for topic in topics:
            for written in self._waiting.get(topic, ()):
                written.set()

    async def _sync(self, frame: bytes, header: wire.Header, cluster: _Connection) -> bytes:
        request = wire.read_sync(frame, header)
        sync = self._syncs.get(request.group)
        if sync is None or sync.generation < request.generation:
            sync = self._syncs[request.group] = _Sync(request.generation)
        if request.assigned:
            await self._others_synced(sync, request.assigned - {request.member})
        await cluster.write(frame)
        sync.members.add(request.member)
        sync.grown.set()
        reply = await cluster.read()
        if reply is None:
            raise ConnectionResetError("the cluster has closed the connection")
        return wire.rejoining(reply, header.version)

    async def _others_synced(self, sync: _Sync, others: frozenset[str]) -> None:
        """Return when they all have, or not in time: the cluster then makes them join again."""
        try:
            async with asyncio.timeout(_SYNC_WAIT_SECONDS):
                while not others <= sync.members:
                    sync.grown.clear()
                    await sync.grown.wait()
        except TimeoutError:
            return
        if others:
            await asyncio.sleep(_SYNC_SETTLE_SECONDS)
