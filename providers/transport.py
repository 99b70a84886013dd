"""The HTTP client under every provider: httpx's interface over aiohttp's connections.

httpx's own pool slows down with the square of the requests under way and falls over at
hundreds of concurrent streams; aiohttp's does not. Redirects, cookies, authentication flows
and hooks are left out, which halves what httpx costs a request: an API that moves is a setting
to change. No limits here, the caller bounds what is in flight; no retries, the router decides.

The package `httpx-aiohttp` does the same, but reports a connection that the server closed as a
`ConnectTimeout`, and costs a fifth more a piece.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import httpx
from aiohttp.http_exceptions import HttpProcessingError

from millrace.providers.entry import Timeouts
from millrace.providers.lean_exchange import LeanExchange, LeanReply

_KEEP_ALIVE_SECONDS = 4.0
"""Below the 5 s after which uvicorn and Node close idle connections, so that a request is not
sent into a connection that is just being closed."""

_READ_BUFFER_BYTES = 2**16
"""How much of one reply aiohttp holds for a slow reader before it stops reading the socket."""

_SKIPPED = frozenset({b"host", b"content-length"})  # aiohttp writes its own

_MAX_ADDRESSES = 256


def build_client(
    timeouts: Timeouts,
    *,
    base_url: str = "",
    environ: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> httpx.AsyncClient:
    """Build the client for one provider entry; whoever holds it must `aclose` it.

    The time to connect is bounded here; the first byte and pauses between pieces are watched
    by the provider, which alone knows when it is waiting. A proxy that `environ` names
    (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, as curl reads them) is used for `base_url`.
    """
    return _Client(
        AiohttpTransport(
            timeouts=timeouts,
            ssl_context=ssl_context or httpx.create_ssl_context(),
            proxy=proxy_for(base_url, environ or {}),
        )
    )


class _Address(NamedTuple):
    """Where a request goes, and with which headers."""

    url: str
    headers: list[tuple[str, str]]
    of: tuple[httpx.URL, httpx.Headers]
    """Kept, as they are known by their identity."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx's requests through an aiohttp session, which opens with the first one.

    Raises httpx's exceptions and aiohttp's as they are; `failures` translates both.
    """

    def __init__(
        self, *, timeouts: Timeouts, ssl_context: ssl.SSLContext, proxy: str | None
    ) -> None:
        self._timeouts = timeouts
        self._ssl_context = ssl_context
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None
        self._lean: LeanExchange | None = None
        """For calls, where no proxy stands between."""
        self._addresses: dict[tuple[int, int], _Address] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return once the reply's headers are there."""
        response = await self._exchange(request)
        if response is None:
            raise httpx.RemoteProtocolError("the server does not answer in HTTP")
        return _Response(response, request)

    async def _exchange(self, request: httpx.Request) -> aiohttp.ClientResponse | LeanReply | None:
        session = self._session or self._open()
        address = self._address(request.url, request.headers)
        try:
            if self._lean is not None and request.method == "POST":
                return await self._lean.post(address.url, address.headers, request.content)
            return await session.request(
                request.method,
                address.url,
                headers=address.headers,
                # A payload that is one already need not be looked up among aiohttp's kinds.
                data=aiohttp.BytesPayload(request.content) if request.content else None,
                allow_redirects=False,
            )
        except (aiohttp.ClientResponseError, HttpProcessingError):
            # Not passed on, not even as a cause: it shows the request's headers, and so the key.
            return None

    def _address(self, url: httpx.URL, headers: httpx.Headers) -> "_Address":
        """Both as text, remembered by their identity: the calls of an entry share them."""
        key = (id(url), id(headers))
        address = self._addresses.get(key)
        if address is None:
            if len(self._addresses) >= _MAX_ADDRESSES:
                self._addresses.clear()
            address = self._addresses[key] = _Address(
                str(url),
                [
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in headers.raw
                    if name.lower() not in _SKIPPED
                ],
                (url, headers),
            )
        return address

    async def aclose(self) -> None:
        """Close every connection, also those in use."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # Not before the first request: a session belongs to the event loop that runs then.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ssl=self._ssl_context, keepalive_timeout=_KEEP_ALIVE_SECONDS
            ),
            timeout=aiohttp.ClientTimeout(connect=self._timeouts.connect),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_BYTES,
            proxy=self._proxy,
        )
        if self._proxy is None:
            self._lean = LeanExchange(self._session, read_buffer_bytes=_READ_BUFFER_BYTES)
        return self._session


class Body(httpx.AsyncByteStream):
    """A reply's body as it arrives. Its own iterator: a generator would cost every piece."""

    def __init__(self, response: aiohttp.ClientResponse | LeanReply) -> None:
        self._response = response
        self._content = response.content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    @property
    def headers(self) -> Mapping[str, str]:
        """The reply's; names are found in any case, and listed as the server wrote them."""
        return self._response.headers

    @property
    def compressed(self) -> bool:
        """Whether it is as the server compressed it, though it was asked not to."""
        return "content-encoding" in self._response.headers

    @property
    def read_to_its_end(self) -> bool:
        """Whether all of it has been given out, so that the connection can be used again."""
        return self._content.at_eof()

    async def __anext__(self) -> bytes:
        try:
            piece = await self._content.readany()
        except RuntimeError as error:
            # How aiohttp says that the session was closed between two reads.
            connection = self._response.connection
            if connection is not None and connection.transport is not None:
                raise
            raise aiohttp.ClientConnectionError(str(error)) from error
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if self._content.at_eof():
            self._response.release()
        else:
            self._response.close()


class _Response(httpx.Response):
    """A reply whose headers become httpx's, each checked and copied, once somebody asks for them.

    Whoever reads `Body.headers` need not.
    """

    def __init__(
        self, response: aiohttp.ClientResponse | LeanReply, request: httpx.Request
    ) -> None:
        # All that httpx's own constructor sets, which would make headers first.
        self.status_code = response.status
        self._request = request
        self.next_request = None
        self.extensions = {}
        self.history = []
        self.is_closed = False
        self.is_stream_consumed = False
        self.default_encoding = "utf-8"
        self.stream = self._body = Body(response)
        self._num_bytes_downloaded = 0
        self._raw_headers: Any = response.raw_headers

    @property
    def headers(self) -> httpx.Headers:
        """The reply's headers."""
        if self._raw_headers is not None:
            self._made, self._raw_headers = httpx.Headers(self._raw_headers), None
        return self._made

    @headers.setter
    def headers(self, headers: httpx.Headers) -> None:
        self._made, self._raw_headers = headers, None

    async def aclose(self) -> None:
        """Let go of the connection; nothing once that was done."""
        if not self.is_closed:
            self.is_closed = True
            await self._body.aclose()


class _Client(httpx.AsyncClient):
    """An `httpx.AsyncClient` whose `send` goes straight to its transport."""

    def __init__(self, transport: AiohttpTransport) -> None:
        super().__init__(transport=transport, timeout=None, trust_env=False)
        self._aiohttp = transport

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **_: Any
    ) -> httpx.Response:
        if self.is_closed:
            raise RuntimeError("the client is closed")
        response = await self._aiohttp.handle_async_request(request)
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response


def proxy_for(base_url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for this URL, or None.

    `NO_PROXY` lists hosts and domains, whose subdomains count too, or is `*`.
    """
    parts = urlsplit(base_url)
    # Sorted so that lower-case names win, as in curl.
    named = {name.lower(): value for name, value in sorted(environ.items()) if value}
    host = (parts.hostname or "").lower()
    direct = [item.strip().lower().lstrip(".") for item in named.get("no_proxy", "").split(",")]
    if not host or "*" in direct:
        return None
    if any(item and (host == item or host.endswith(f".{item}")) for item in direct):
        return None
    return named.get(f"{parts.scheme}_proxy") or named.get("all_proxy")
