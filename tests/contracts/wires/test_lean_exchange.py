"""What a call looks like on the wire, and replies that begin in other ways than most."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from millrace.providers.entry import Timeouts
from millrace.providers.transport import build_client

_BODY = b'{"model": "m"}'
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Mark: a\r\n\r\nhi"


class Server:
    """Answers each request with the same bytes, and keeps what it was sent."""

    def __init__(self) -> None:
        self.reply = _REPLY
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.address = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.bodies.append(await reader.readexactly(int(length or 0)))
                writer.write(self.reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port."""
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield made
    listening.close()


async def test_a_request_is_written_as_http_has_it(server: Server) -> None:
    """Path with query, host with port, the headers that were given, the length, the body."""
    url = f"http://{server.address}/v1/models/a%2Fb:ask?version=1&x=%C3%BC"
    async with build_client(Timeouts()) as client:
        for body in (_BODY, b""):
            reply = await client.post(url, content=body, headers={"x-key": "sk", "user-agent": "m"})
            assert (reply.status_code, reply.content, reply.headers["x-mark"]) == (200, b"hi", "a")

    lines = server.heads[0].decode().split("\r\n")
    assert lines[0] == "POST /v1/models/a%2Fb:ask?version=1&x=%C3%BC HTTP/1.1"
    fields = {line.lower() for line in lines[1:]}
    assert {f"host: {server.address}", "x-key: sk", "user-agent: m"} <= fields
    assert {f"content-length: {len(_BODY)}"} == {each for each in fields if "length" in each}
    assert server.bodies == [_BODY, b""]
    assert server.connections == 1


async def test_requests_with_other_headers_share_connections_and_nothing_else(
    server: Server,
) -> None:
    """One key is not sent in the place of another, however many there are."""
    keys = [f"sk-{number}" for number in range(600)]
    async with build_client(Timeouts()) as client:
        for key in (*keys, *keys[:5]):
            url = f"http://{server.address}/{key}"
            await client.post(url, content=_BODY, headers={"authorization": key})

    for head, key in zip(server.heads, (*keys, *keys[:5]), strict=True):
        assert head.startswith(b"POST /%b HTTP/1.1\r\n" % key.encode())
        assert b"\r\nauthorization: %b\r\n" % key.encode() in head.lower()
    assert server.connections == 1


async def test_what_announces_a_reply_is_not_the_reply(server: Server) -> None:
    """Early hints and the like may come first."""
    server.reply = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + _REPLY
    async with build_client(Timeouts()) as client:
        reply = await client.post(f"http://{server.address}/", content=_BODY)

    assert (reply.status_code, reply.content) == (200, b"hi")


async def test_a_reply_without_a_body_gives_its_connection_back(server: Server) -> None:
    """There is no end of it to wait for."""
    server.reply = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with build_client(Timeouts()) as client:
        for _ in range(3):
            reply = await client.post(f"http://{server.address}/", content=_BODY)
            assert (reply.status_code, reply.content) == (204, b"")

    assert server.connections == 1


async def test_a_server_that_wants_its_connection_closed_is_asked_anew(server: Server) -> None:
    """`Connection: close` holds."""
    server.reply = _REPLY.replace(b"X-Mark: a", b"Connection: close")
    async with build_client(Timeouts()) as client:
        for _ in range(3):
            await client.post(f"http://{server.address}/", content=_BODY)

    assert server.connections == 3


async def test_a_header_cannot_bring_another_one(server: Server) -> None:
    """Wherever its value comes from."""
    async with build_client(Timeouts()) as client:
        request = httpx.Request("POST", f"http://{server.address}/", content=_BODY)
        request.headers["x-key"] = "a\r\nx-other: b"

        with pytest.raises(ValueError, match="x-key"):
            await client.send(request)

    assert server.heads == []
