"""A provider over HTTP: one exchange per call, in whatever dialect its wire has."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from datetime import datetime
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
import httpx

from millrace.providers.entry import ProviderEntry
from millrace.providers.failures import from_exception, from_response
from millrace.providers.keys import ApiKey, ApiKeys
from millrace.providers.protocol import ModelRequest, ProviderEvent, TextDelta
from millrace.providers.stall import StallWatch
from millrace.providers.wires.wire import EncodedRequest, Wire
from millrace.schemas.errors import ProviderError, ProviderUnavailableError

# Bodies longer than this are not error messages worth reading to the end.
_MAX_ERROR_BYTES = 2**16
# How long to wait, after a reply's end mark, for the end of the body that lets the connection
# be used again. The completion is already out by then.
_DRAIN_SECONDS = 0.05
_MAX_URLS = 1024
_NO_SUCH_PATH = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)

_FOREIGN = (
    httpx.HTTPError,
    httpx.StreamError,
    httpx.InvalidURL,
    aiohttp.ClientError,
    OSError,  # and with it TimeoutError
)


class HttpProvider:
    """Implements `Provider`: encodes the request, sends it, feeds the reply to its reader.

    It owns the client that it is given. All that can be built once (URLs, headers) is.
    """

    def __init__(
        self,
        *,
        name: str,
        entry: ProviderEntry,
        wire: Wire,
        client: httpx.AsyncClient,
        keys: ApiKeys,
        now: Callable[[], datetime],
    ) -> None:
        self.name = name
        self.keys = keys
        self._wire = wire
        self._client = client
        self._now = now
        self._timeouts = entry.timeouts
        self._base_url, self._origin, self._credentials = _split(str(entry.base_url))
        self._entry_headers = entry.headers
        self._headers: dict[str | None, httpx.Headers] = {}
        self._urls: dict[str, httpx.URL] = {}

    async def ask(
        self, request: ModelRequest, *, key: ApiKey | None = None
    ) -> AsyncGenerator[ProviderEvent, None]:
        """Send the request and yield the reply as it comes; see `Provider`.

        Give a `key` drawn from `keys` to know which one was used; else it is the next one.
        """
        http_request = self._build("POST", self._wire.encode(request), key or self.keys.next())
        watch = StallWatch()
        response: httpx.Response | None = None
        limit = self._timeouts.first_token
        try:
            response = await watch.wait(self._client.send(http_request, stream=True), seconds=limit)
            if not response.is_success:
                raise await self._refusal(response, watch)
            reply = self._wire.reply(request, response.headers)
            pieces = _pieces(response)
            while not reply.ended:
                piece = await watch.wait(anext(pieces, b""), seconds=limit)
                if not piece:
                    break
                limit = self._timeouts.idle
                for event in _joined(reply.feed(piece)):
                    yield event
            for event in reply.close():
                yield event
            if reply.ended:
                await _drain(pieces)
        except _FOREIGN as error:
            begun = response is not None
            raise from_exception(error, origin=self._origin, reply_begun=begun) from error
        finally:
            watch.close()
            if response is not None:
                await response.aclose()

    async def check(self) -> None:
        """Reach the server without spending money.

        A server that has no such path has been reached: compatible servers often lack it.

        Raises:
            ProviderError: It cannot be reached, or does not take the key.
        """
        request = self._build("GET", EncodedRequest(self._wire.check_path, b""), self.keys.next())
        watch = StallWatch()
        response: httpx.Response | None = None
        limit = self._timeouts.connect + self._timeouts.idle
        try:
            response = await watch.wait(self._client.send(request, stream=True), seconds=limit)
            if not response.is_success and response.status_code not in _NO_SUCH_PATH:
                raise await self._refusal(response, watch)
        except _FOREIGN as error:
            raise from_exception(error, origin=self._origin, reply_begun=False) from error
        finally:
            watch.close()
            if response is not None:
                await response.aclose()

    async def aclose(self) -> None:
        """Close every connection; calls still running raise."""
        await self._client.aclose()

    def _build(self, method: str, request: EncodedRequest, key: ApiKey | None) -> httpx.Request:
        if self._client.is_closed:
            raise ProviderUnavailableError(f"the connections to {self._origin} were closed")
        url = self._urls.get(request.path)
        if url is None:
            if len(self._urls) >= _MAX_URLS:
                self._urls.clear()
            url = self._urls[request.path] = httpx.URL(self._base_url + request.path)
        alias = key.alias if key is not None else None
        headers = self._headers.get(alias)
        if headers is None:
            headers = self._headers[alias] = self._headers_with(key)
        return httpx.Request(method, url, headers=headers, content=request.body)

    def _headers_with(self, key: ApiKey | None) -> httpx.Headers:
        headers = httpx.Headers(
            {
                "accept": "*/*",
                # Compressing would hold tokens back.
                "accept-encoding": "identity",
                "content-type": "application/json",
                "user-agent": "millrace",
            }
        )
        headers.update(self._wire.headers)
        if key is not None:
            name, value = self._wire.authorization(key.secret)
            headers[name] = value
        elif self._credentials is not None:
            headers["authorization"] = self._credentials
        headers.update(self._entry_headers)
        return headers

    async def _refusal(self, response: httpx.Response, watch: StallWatch) -> ProviderError:
        body = await watch.wait(_read_error_body(response), seconds=self._timeouts.idle)
        return from_response(
            response.status_code, response.headers, body, origin=self._origin, now=self._now()
        )


def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it arrives; through httpx's decoders only where it was compressed after all."""
    if "content-encoding" in response.headers:
        return response.aiter_bytes()
    return aiter(cast("httpx.AsyncByteStream", response.stream))


def _joined(events: Iterator[ProviderEvent]) -> Iterator[ProviderEvent]:
    """The events, text that came in one piece of the body as one delta.

    Nobody can be shown it any sooner, and each delta costs whoever handles it.
    """
    text: list[str] = []
    try:
        for event in events:
            if type(event) is TextDelta:
                text.append(event.text)
                continue
            if text:
                yield TextDelta("".join(text))
                text.clear()
            yield event
    except ProviderError:
        if text:
            yield TextDelta("".join(text))
        raise
    if text:
        yield TextDelta("".join(text))


async def _read_error_body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) >= _MAX_ERROR_BYTES:
            break
    return bytes(body)


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    # Whatever goes wrong here costs a connection, not an answer.
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            await anext(pieces, None)
    except _FOREIGN:
        return


def _split(base_url: str) -> tuple[str, str, str | None]:
    """The URL without user name and password, its origin, and those two as a header's value."""
    parts = urlsplit(base_url)
    host = parts.netloc.rpartition("@")[2]
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = f"Basic {base64.b64encode(pair.encode()).decode()}"
    bare = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    return bare, f"{parts.scheme}://{host}", credentials
