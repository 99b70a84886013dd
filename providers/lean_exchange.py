"""HTTP exchanges over aiohttp's connections, without what its session does for each of them.

Name lookup, TLS, the pool of connections and the parser are aiohttp's. Left out is what is the
same for every call of an entry (the URL, the headers and the request made of them), and what is
not used here: cookies, redirects, traces, a task that writes the body. A third of what a call's
exchange costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from millrace.providers.running_loop import running_loop

_CONTINUE, _SWITCHING, _OK = 100, 101, 200
_MOST_PREPARED = 256
_FORBIDDEN = frozenset("\r\n\0")

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is the same for all requests with this method, URL and headers."""

    request: aiohttp.ClientRequest
    """For the pool alone, which finds connections by it and makes them for it."""
    head: bytes
    """All up to the length of the body."""
    headers: Headers
    """Kept, as they are known by their identity."""


class LeanReply:
    """A reply whose head is there; its body comes in `content`. Must be released or closed."""

    __slots__ = ("connection", "content", "headers", "raw_headers", "status")

    def __init__(
        self,
        connection: aiohttp.connector.Connection,
        message: aiohttp.http.RawResponseMessage,
        content: aiohttp.StreamReader,
    ) -> None:
        self.connection: aiohttp.connector.Connection | None = connection
        self.content = content
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        self.raw_headers = message.raw_headers
        # As soon as the body is here the connection may be used again, before it has been read.
        content.on_eof(self.release)

    def release(self) -> None:
        """Give the connection back to the pool; nothing once that was done."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.release()

    def close(self) -> None:
        """Close the connection, unless it was given back."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


class LeanExchange:
    """Sends requests over the connections of a session, which stays their owner.

    Raises aiohttp's exceptions; its `HttpProcessingError` for an answer that is not HTTP.
    """

    def __init__(self, session: aiohttp.ClientSession, *, read_buffer_bytes: int) -> None:
        connector = session.connector
        if connector is None:
            raise RuntimeError("the session is closed")
        self._session = session
        self._connector = connector
        self._read_buffer_bytes = read_buffer_bytes
        self._prepared: dict[tuple[str, int], _Prepared] = {}

    async def post(self, url: str, headers: Headers, body: bytes) -> LeanReply:
        """Send a request and return once the reply's head is there; sent once, whatever happens.

        `headers` are known by their identity, and must not change.
        """
        key = (url, id(headers))
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = self._prepare(key, headers)
        try:
            connection = await self._connector.connect(
                prepared.request, traces=[], timeout=self._session.timeout
            )
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"no connection to {url!r} in time") from error
        try:
            return await self._ask(connection, prepared, body)
        except BaseException:
            connection.close()
            raise

    async def _ask(
        self, connection: aiohttp.connector.Connection, prepared: _Prepared, body: bytes
    ) -> LeanReply:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ClientConnectionError("the connection was closed before its use")
        protocol.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=self._read_buffer_bytes,
        )
        transport.write(b"%b%d\r\n\r\n%b" % (prepared.head, len(body), body))
        while True:
            message, content = await protocol.read()
            # 1xx announce the reply that follows.
            if not _CONTINUE <= message.code < _OK or message.code == _SWITCHING:
                return LeanReply(connection, message, content)

    def _prepare(self, key: tuple[str, int], headers: Headers) -> _Prepared:
        if len(self._prepared) >= _MOST_PREPARED:
            self._prepared.clear()
        url = URL(key[0])
        request = aiohttp.ClientRequest(
            "POST", url, headers=headers, loop=running_loop(), session=self._session
        )
        lines = [f"POST {url.raw_path_qs} HTTP/1.1", f"Host: {request.headers['Host']}"]
        for name, value in headers:
            if _FORBIDDEN & {*name, *value}:
                raise ValueError(f"header {name!r} holds a line break")
            lines.append(f"{name}: {value}")
        head = "\r\n".join((*lines, "Content-Length: ")).encode("latin-1")
        prepared = self._prepared[key] = _Prepared(request, head, headers)
        return prepared
