"""The client over real connections: many at once, slow, broken and cancelled ones."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from itertools import count

import httpx
import pytest

from millrace.providers.entry import ModelEntry, ProviderEntry, Timeouts
from millrace.providers.http_provider import HttpProvider
from millrace.providers.protocol import Completion, ModelRequest, TextDelta
from millrace.providers.registry import build_provider
from millrace.providers.transport import build_client
from millrace.schemas.errors import ProviderUnavailableError
from millrace.schemas.message import Message

_REQUEST = ModelRequest(model="m", messages=(Message(role="user", content="Hello"),))
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_LAST = b"0\r\n\r\n"
_MANY = 1000


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_TOKEN = _chunk(b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n')
_END = _chunk(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n')
_DONE = _chunk(b"data: [DONE]\n\n")
_REPLY = _HEAD + _TOKEN + _END + _DONE + _LAST

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Reads requests and answers each with a script; counts its connections."""

    def __init__(self) -> None:
        self.answer: Answer = self._reply
        self.url = ""
        self.opened = 0
        self.open = 0
        self.targets: list[bytes] = []
        self._changed = asyncio.Condition()

    async def until_open(self, connections: int) -> None:
        """Wait until exactly so many connections are open."""
        async with self._changed, asyncio.timeout(30):
            await self._changed.wait_for(lambda: self.open == connections)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        await self._count(1)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.targets.append(head.split(b" ", 2)[1])
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                answering = asyncio.ensure_future(self.answer(writer))
                gone = asyncio.ensure_future(reader.read(1))
                await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    answering.cancel()
                    return
                await answering
                if writer.is_closing():
                    return
                gone.cancel()
                await asyncio.wait({gone})
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            await self._count(-1)

    async def _reply(self, writer: asyncio.StreamWriter) -> None:
        writer.write(_REPLY)
        await writer.drain()

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.open += change
            self.opened += max(0, change)
            self._changed.notify_all()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port."""
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0, backlog=2 * _MANY)
    host, port = listening.sockets[0].getsockname()[:2]
    made.url = f"http://{host}:{port}/v1"
    yield made
    listening.close()
    await made.until_open(0)


@asynccontextmanager
async def _provider(url: str, **timeouts: float) -> AsyncIterator[HttpProvider]:
    entry = ProviderEntry(
        wire="openai",
        base_url=url,
        models={"m": ModelEntry()},
        timeouts=Timeouts(**timeouts),
    )
    made = build_provider("p", entry, client=build_client(entry.timeouts), environ={})
    try:
        yield made
    finally:
        await made.aclose()


async def _ask(provider: HttpProvider) -> str:
    """The text of one reply."""
    text = None
    async for event in provider.ask(_REQUEST):
        if isinstance(event, Completion):
            text = event.text
    assert text is not None
    return text


async def _fails(provider: HttpProvider) -> ProviderUnavailableError:
    with pytest.raises(ProviderUnavailableError) as caught:
        await _ask(provider)
    return caught.value


async def test_a_thousand_streams_run_at_once(server: Server) -> None:
    """None waits for another: no reply goes on before all have begun."""
    begun = asyncio.Barrier(_MANY)

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD + _TOKEN)
        await begun.wait()
        writer.write(_TOKEN + _END + _DONE + _LAST)

    server.answer = answer
    async with _provider(server.url) as provider, asyncio.timeout(60):
        texts = await asyncio.gather(*(_ask(provider) for _ in range(_MANY)))

    assert texts == ["HiHi"] * _MANY


async def test_a_thousand_streams_cancelled_midway_free_their_connections(
    server: Server,
) -> None:
    """The server sees every one of them close, and the next thousand succeed."""
    reading = asyncio.Barrier(_MANY + 1)

    async def hang(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD + _TOKEN)
        await asyncio.Event().wait()

    async def read(provider: HttpProvider) -> None:
        async for event in provider.ask(_REQUEST):
            assert event == TextDelta("Hi")
            await reading.wait()

    server.answer = hang
    async with _provider(server.url) as provider, asyncio.timeout(60):
        tasks = [asyncio.create_task(read(provider)) for _ in range(_MANY)]
        await reading.wait()
        assert server.open == _MANY
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        await server.until_open(0)
        server.answer = server._reply
        texts = await asyncio.gather(*(_ask(provider) for _ in range(_MANY)))

    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    assert texts == ["Hi"] * _MANY


async def test_closing_the_iterator_frees_its_connection(server: Server) -> None:
    """As cancelling does."""

    async def hang(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD + _TOKEN)
        await asyncio.Event().wait()

    server.answer = hang
    async with _provider(server.url) as provider:
        async with aclosing(provider.ask(_REQUEST)) as events:
            assert await anext(events) == TextDelta("Hi")
            await server.until_open(1)
        await server.until_open(0)


async def test_one_connection_serves_call_after_call(server: Server) -> None:
    """A reply that was read to its end mark gives its connection back."""
    async with _provider(server.url) as provider:
        for _ in range(5):
            assert await _ask(provider) == "Hi"

        assert server.opened == 1


async def test_a_server_that_does_not_close_the_body_costs_only_its_connection(
    server: Server,
) -> None:
    """The reply has its end mark: it is complete."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD + _TOKEN + _END + _DONE)
        await asyncio.Event().wait()

    server.answer = answer
    async with _provider(server.url) as provider:
        assert await _ask(provider) == "Hi"
        await server.until_open(0)


async def test_a_silent_server_times_out_before_its_first_byte(server: Server) -> None:
    """Whether headers came or not."""

    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def headers_only(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD)
        await asyncio.Event().wait()

    async with _provider(server.url, first_token=0.1, idle=30) as provider:
        for answer in (silent, headers_only):
            server.answer = answer
            error = await _fails(provider)
            assert error.code == "provider_timeout"
            assert "0.1 s" in error.message
        await server.until_open(0)


async def test_a_stream_that_stalls_times_out(server: Server) -> None:
    """By the limit for pauses, which is its own."""

    async def stall(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD + _TOKEN)
        await asyncio.Event().wait()

    server.answer = stall
    async with _provider(server.url, first_token=30, idle=0.1) as provider, asyncio.timeout(10):
        error = await _fails(provider)

    assert error.code == "provider_timeout"
    assert "0.1 s" in error.message


async def test_a_slow_reader_is_no_stalled_stream(server: Server) -> None:
    """The reader may take its time between pieces."""
    async with _provider(server.url, first_token=30, idle=1) as provider:
        loop = asyncio.get_running_loop()
        texts = []
        async for event in provider.ask(_REQUEST):
            if isinstance(event, TextDelta):
                work = loop.create_future()
                loop.call_later(1.5, work.set_result, event.text)
                texts.append(await work)

    assert texts == ["Hi"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", "provider_unavailable"),
        (b"HTTP/1.1 200 OK\r\nContent-", "provider_unavailable"),
        (b"\x15\x03\x01 not HTTP\r\n\r\n", "provider_unavailable"),
        (_HEAD, "stream_truncated"),
        (_HEAD + _TOKEN, "stream_truncated"),
        (_HEAD + _TOKEN[:-9], "stream_truncated"),
        (_HEAD + _TOKEN + b"zz\r\n", "provider_unavailable"),
        (_HEAD + _TOKEN + _LAST, "stream_truncated"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", "stream_truncated"),
        (b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"choices": [', "stream_truncated"),
    ],
    ids=[
        "no answer",
        "cut in headers",
        "not HTTP",
        "no body",
        "cut after a token",
        "cut in a token",
        "broken chunk",
        "ended well but early",
        "cut in a sized body",
        "cut in a body to the end",
    ],
)
async def test_a_connection_that_is_cut_is_a_failure(
    server: Server, sent: bytes, code: str
) -> None:
    """Never a short success; and worth trying again."""

    async def cut(writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        writer.close()

    server.answer = cut
    async with _provider(server.url, first_token=5, idle=5) as provider:
        error = await _fails(provider)

    assert (error.code, error.retryable) == (code, True)


@pytest.mark.parametrize("sent", [b"\x15\x03\x01 not HTTP\r\n\r\n", b"", _HEAD + b"zz\r\n"])
async def test_no_error_holds_the_key_in_what_caused_it(server: Server, sent: bytes) -> None:
    """Whoever prints an error with its causes prints no key."""

    async def cut(writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        writer.close()

    server.answer = cut
    entry = ProviderEntry(wire="openai", base_url=server.url, api_key_env=("KEY",))
    client = build_client(entry.timeouts)
    provider = build_provider("p", entry, client=client, environ={"KEY": "sk-very-secret"})
    error: BaseException | None = await _fails(provider)
    await provider.aclose()

    shown = []
    while error is not None:
        shown.append(f"{error!r} {error} {error.args!r}")
        error = error.__cause__ or error.__context__
    assert shown
    assert "very-secret" not in " ".join(shown)


async def test_nobody_listening_is_said_with_the_address(unused_tcp_port: int) -> None:
    """So that the operator sees which server is down."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with _provider(url) as provider:
        error = await _fails(provider)
        with pytest.raises(ProviderUnavailableError, match=str(unused_tcp_port)):
            await provider.check()

    assert error.code == "provider_unavailable"
    assert f"no connection to {url}" in error.message


async def test_closing_the_provider_breaks_off_what_runs(server: Server) -> None:
    """Readers are told, whether they are waiting or about to, and do not hang."""

    async def hang(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD + _TOKEN)
        await asyncio.Event().wait()

    server.answer = hang
    async with _provider(server.url) as provider:
        events = provider.ask(_REQUEST)
        assert await anext(events) == TextDelta("Hi")
        rest = asyncio.ensure_future(anext(events))
        await server.until_open(1)
        await provider.aclose()

        with pytest.raises(ProviderUnavailableError):
            async with asyncio.timeout(30):
                await rest


async def test_a_proxy_is_used_where_the_environment_names_one(server: Server) -> None:
    """It is asked for the whole URL."""
    proxy = server.url.removesuffix("/v1")
    entry = ProviderEntry(
        wire="openai", base_url="http://models.example/v1", models={"m": ModelEntry()}
    )
    client = build_client(
        entry.timeouts, base_url=str(entry.base_url), environ={"HTTP_PROXY": proxy}
    )
    provider = build_provider("p", entry, client=client, environ={})

    assert await _ask(provider) == "Hi"
    await provider.aclose()

    assert server.targets == [b"http://models.example/v1/chat/completions"]


async def test_the_client_is_an_ordinary_httpx_client(server: Server) -> None:
    """Other code may use it as one; it reads a body unless asked not to."""
    async with build_client(Timeouts()) as client:
        response = await client.get(server.url, params={"a": "1"})

        assert response.content.endswith(b"data: [DONE]\n\n")
        assert server.targets == [b"/v1?a=1"]

    with pytest.raises(RuntimeError, match="closed"):
        await client.get(server.url)


async def test_cookies_of_one_reply_do_not_come_back_with_the_next_request(
    server: Server,
) -> None:
    """Keys, and so customers, share a client."""
    seen: list[bytes] = []
    numbers = count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in numbers:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            head = b"HTTP/1.1 200 OK\r\nSet-Cookie: id=%d\r\nContent-Length: 0\r\n\r\n" % number
            writer.write(head)
            if number:
                break
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with build_client(Timeouts()) as client:
        for _ in range(2):
            await client.get(httpx.URL(f"http://127.0.0.1:{port}/"))
    listening.close()

    assert not any(b"cookie" in head.lower() for head in seen)
