"""A provider over HTTP: one exchange per call, in whatever dialect its wire has."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
import httpx

from millrace.providers.entry import ProviderEntry
from millrace.providers.failures import from_exception, from_response
from millrace.providers.keys import ApiKey, ApiKeys
from millrace.providers.model_list import read_model_list
from millrace.providers.plain_reply import PlainReply
from millrace.providers.protocol import (
    EmbeddingReply,
    EmbeddingRequest,
    ModelRequest,
    ProviderEvent,
    Quota,
)
from millrace.providers.rate_headers import read_allowances
from millrace.providers.stall import StallWatch
from millrace.providers.transport import Body
from millrace.providers.wires.wire import EncodedRequest, ReplyLimits, Wire
from millrace.schemas.errors import ProviderError, ProviderUnavailableError, RequestRefusedError
from millrace.schemas.provider_health import KeyAside

# Bodies longer than this are not error messages worth reading to the end.
_MAX_ERROR_BYTES = 2**16
# How long to wait, after a reply's end mark, for the end of the body that lets the connection
# be used again. The completion is already out by then.
_DRAIN_SECONDS = 0.05
_MAX_KINDS = 1024
_NO_SUCH_PATH = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)

_FOREIGN = (
    httpx.HTTPError,
    httpx.StreamError,
    httpx.InvalidURL,
    aiohttp.ClientError,
    OSError,  # and with it TimeoutError
)


class HttpProvider:
    """Implements `Provider` and `Embedder`: encodes, sends, feeds the reply to its reader.

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
        limits: ReplyLimits | None = None,
    ) -> None:
        self.name = name
        self.keys = keys
        self._wire_name = entry.wire
        self._limits = limits or ReplyLimits()
        self._wire = wire
        self._client = client
        self._now = now
        self._timeouts = entry.timeouts
        self._base_url, self._origin, self._credentials = _split(str(entry.base_url))
        self._entry_headers = entry.headers
        self.address = self._base_url
        """The base URL, without user name and password."""
        self._blanks: dict[tuple[str, str, str | None], httpx.Request] = {}
        """Requests without a body, by method, path and key."""

    async def ask(
        self, request: ModelRequest, *, key: ApiKey | None = None, account: str | None = None
    ) -> AsyncGenerator[ProviderEvent, None]:
        """Send the request and yield the reply as it comes; see `Provider`.

        Give a `key` drawn from `keys` to know which one was used; else it is the next one. The
        request's quota knows the two together as `account`, the only one unless told.
        """
        encoded = self._wire.encode(request)
        key = key or self.keys.next()
        alias = None if key is None else key.alias
        http_request = self._build("POST", encoded, key)
        watch = StallWatch(look_within=self._timeouts.idle)
        response: httpx.Response | None = None
        limit = self._timeouts.first_token
        quota = request.quota
        try:
            self._announce(quota, account)
            response = await watch.wait(self._client.send(http_request, stream=True), seconds=limit)
            headers = _headers(response)
            self._tell(quota, headers)
            if not response.is_success:
                raise await self._refusal(response, watch)
            reply = self._wire.reply(request, headers)
            reply.key_alias = alias
            pieces = _pieces(response)
            while not reply.ended:
                piece = await watch.wait(anext(pieces, b""), seconds=limit)
                if not piece:
                    break
                limit = self._timeouts.idle
                for event in reply.feed(piece):
                    yield event
            for event in reply.close():
                yield event
            if reply.ended:
                await _drain(pieces)
        except ProviderError as error:
            error.key_alias = alias
            raise
        except _FOREIGN as error:
            raise self._translated(error, begun=response is not None, alias=alias) from error
        finally:
            watch.close()
            if response is not None:
                await response.aclose()

    async def embed(
        self, request: EmbeddingRequest, *, key: ApiKey | None = None, account: str | None = None
    ) -> EmbeddingReply:
        """Turn a batch of texts into vectors in one exchange; see `Embedder` and `ask`."""
        wire = self._wire.embeddings
        if wire is None:
            raise RequestRefusedError(
                f"the {self._wire_name} wire has no embeddings: send them to an entry whose wire "
                "is openai, gemini or ollama"
            )
        encoded = wire.encode(request)
        key = key or self.keys.next()
        alias = None if key is None else key.alias
        quota = request.quota
        self._announce(quota, account)
        async with self.exchange(
            "POST", encoded, key=key, seconds=self._timeouts.first_token
        ) as reply:
            self._tell(quota, reply.headers)
            body = await reply.read(max_bytes=self._limits.max_reply_bytes)
            return replace(wire.read(request, body, reply.headers), key_alias=alias)

    async def check(self, *, key: ApiKey | None = None) -> None:
        """Reach the server without spending money.

        A server that has no such path has been reached: compatible servers often lack it.

        Raises:
            ProviderError: It cannot be reached, or does not take the key.
        """
        path = EncodedRequest(self._wire.check_path, b"")
        seconds = self._timeouts.connect + self._timeouts.idle
        try:
            async with self.exchange("GET", path, key=key, seconds=seconds):
                pass
        except ProviderError as error:
            if error.http_status not in _NO_SUCH_PATH:
                raise

    async def listed_models(self) -> frozenset[str] | None:
        """The models that the server lists; None where it has no list, or a longer one.

        Raises:
            ProviderError: It cannot be reached, or does not take the key.
        """
        path = EncodedRequest(self._wire.check_path, b"")
        seconds = self._timeouts.connect + self._timeouts.idle
        try:
            async with self.exchange("GET", path, seconds=seconds) as reply:
                return read_model_list(await reply.read(max_bytes=self._limits.max_reply_bytes))
        except ProviderError as error:
            if error.http_status not in _NO_SUCH_PATH:
                raise
            return None

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        request: EncodedRequest,
        *,
        seconds: float,
        idle_seconds: float | None = None,
        key: ApiKey | None = None,
    ) -> AsyncIterator[PlainReply]:
        """Have one exchange besides `ask`: for what is no conversation.

        Args:
            method: HTTP's.
            request: What to send.
            seconds: How long the reply may take to begin.
            idle_seconds: How long each further piece may take; the entry's when None.
            key: As for `ask`.

        Raises:
            ProviderError: As `ask`, also for what fails while the reply is read inside the block.
        """
        key = key or self.keys.next()
        http_request = self._build(method, request, key)
        watch = StallWatch()
        response: httpx.Response | None = None
        try:
            response = await watch.wait(
                self._client.send(http_request, stream=True), seconds=seconds
            )
            if not response.is_success:
                raise await self._refusal(response, watch)
            idle = self._timeouts.idle if idle_seconds is None else idle_seconds
            yield PlainReply(response.headers, _pieces(response), watch=watch, idle_seconds=idle)
        except ProviderError as error:
            error.key_alias = None if key is None else key.alias
            raise
        except _FOREIGN as error:
            alias = None if key is None else key.alias
            raise self._translated(error, begun=response is not None, alias=alias) from error
        finally:
            watch.close()
            if response is not None:
                await response.aclose()

    @property
    def keys_set_aside(self) -> tuple[KeyAside, ...]:
        """None: a single server with a single key has nothing to take in its place."""
        return ()

    @property
    def usable(self) -> bool:
        """Always, as no key is set aside."""
        return True

    @property
    def accounts(self) -> tuple[str, ...]:
        """The only one: several keys of one server are told apart by who spreads calls."""
        return (self.address,)

    async def aclose(self) -> None:
        """Close every connection; calls still running raise."""
        await self._client.aclose()

    def _announce(self, quota: Quota | None, account: str | None) -> None:
        if quota is not None:
            quota.sent_to(account or self.address)

    def _tell(self, quota: Quota | None, headers: Mapping[str, str]) -> None:
        if quota is not None:
            quota.observe(read_allowances(headers, now=self._now()))

    def _build(self, method: str, request: EncodedRequest, key: ApiKey | None) -> httpx.Request:
        if self._client.is_closed:
            raise ProviderUnavailableError(f"the connections to {self._origin} were closed")
        alias = key.alias if key is not None else None
        kind = (method, request.path, alias)
        blank = self._blanks.get(kind)
        if blank is None:
            if len(self._blanks) >= _MAX_KINDS:
                self._blanks.clear()
            # Given as a stream, a body adds no headers: aiohttp writes those.
            blank = self._blanks[kind] = httpx.Request(
                method,
                self._base_url + request.path,
                headers=self._headers_with(key),
                stream=httpx.ByteStream(b""),
            )
        return _with_body(blank, request.body)

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

    def _translated(self, error: Exception, *, begun: bool, alias: str | None) -> ProviderError:
        failure = from_exception(error, origin=self._origin, reply_begun=begun)
        failure.key_alias = alias
        return failure

    async def _refusal(self, response: httpx.Response, watch: StallWatch) -> ProviderError:
        body = await watch.wait(_read_error_body(response), seconds=self._timeouts.idle)
        error = from_response(
            response.status_code, response.headers, body, origin=self._origin, now=self._now()
        )
        error.http_status = response.status_code
        return error


def _with_body(blank: httpx.Request, body: bytes) -> httpx.Request:
    """The request with a body. The URL and headers are the same objects, and must not change.

    In place of httpx's constructor, which would read and copy both for each call.
    """
    request = httpx.Request.__new__(httpx.Request)
    request.__dict__.update(blank.__dict__)
    request.stream = httpx.ByteStream(body)
    request._content = body  # noqa: SLF001 (what `read` would put there)
    return request


def _headers(response: httpx.Response) -> Mapping[str, str]:
    """The reply's headers, without making httpx's of them where the body knows them."""
    stream = response.stream
    return stream.headers if isinstance(stream, Body) else response.headers


def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it arrives; through httpx's decoders only where it was compressed after all."""
    stream = response.stream
    # Asked of the body where it knows: httpx's headers decode themselves first.
    compressed = (
        stream.compressed if isinstance(stream, Body) else "content-encoding" in response.headers
    )
    if compressed:
        return response.aiter_bytes()
    return aiter(cast("httpx.AsyncByteStream", stream))


async def _read_error_body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) >= _MAX_ERROR_BYTES:
            break
    return bytes(body)


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    if isinstance(pieces, Body) and pieces.read_to_its_end:
        return
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
