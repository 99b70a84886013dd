"""A ClickHouse HTTP interface over the embedded engine, in a process of its own.

So much of the interface as clickhouse-connect uses, with the real engine behind it; and it can be
told to lose answers and to be busy. Prints its ports, plain and TLS, when it listens.
Usage: clickhouse_bridge.py FOLDER PASSWORD CERTIFICATE_AND_KEY
"""

import asyncio
import base64
import gzip
import re
import ssl
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chdb
import lz4.frame
from aiohttp import web

_TRANSPORT = frozenset(
    {
        "query",
        "database",
        "buffer_size",
        "cancel_http_readonly_queries_on_client_close",
        "client_protocol_version",
        "compress",
        "decompress",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_id",
        "wait_end_of_query",
    }
)
_INSERT = re.compile(rb"(INSERT INTO .*?) FORMAT Native\n", re.DOTALL)
_CODE = re.compile(r"Code: (\d+)")
_SELECTS = ("select", "show", "describe", "with", "exists", "explain")
_DECODERS = {"": bytes, "lz4": lz4.frame.decompress, "gzip": gzip.decompress}


class Bridge:
    """Answers requests as a ClickHouse server would, faults aside."""

    def __init__(self, *, folder: str, password: str) -> None:
        self._folder = folder
        self._authorization = "Basic " + base64.b64encode(f"millrace:{password}".encode()).decode()
        self._faults = {"lose_answers": 0, "busy": 0, "full": 0}
        # The engine stays open as long as one connection does.
        self._kept = chdb.connect(folder)

    async def set_faults(self, request: web.Request) -> web.Response:
        """Take how many of the next inserts shall go wrong, and how."""
        self._faults |= {name: int(value) for name, value in request.query.items()}
        return web.Response(text="set")

    async def ping(self, _: web.Request) -> web.Response:
        """Say that the server is there."""
        return web.Response(text="Ok.\n")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Run the statement in the URL or body."""
        if request.headers.get("Authorization") != self._authorization:
            return _failure(403, 516, "millrace: Authentication failed. (AUTHENTICATION_FAILED)")
        raw = await request.read()
        body = _DECODERS[request.headers.get("Content-Encoding", "")](raw)
        insert = _INSERT.match(body)
        if insert and self._take("busy"):
            return _failure(503, 252, "Too many parts. Merges are slower. (TOO_MANY_PARTS)")
        if insert and self._take("full"):
            return _failure(500, 243, "Cannot reserve 1.00 MiB. (NOT_ENOUGH_SPACE)")
        try:
            result = await asyncio.to_thread(self._run, dict(request.query), body, insert)
        except RuntimeError as error:
            text = str(error)
            found = _CODE.search(text)
            return _failure(500, int(found[1]) if found else 1002, text)
        if insert and self._take("lose_answers"):
            # The rows are in; whoever sent them will never hear of it.
            assert request.transport is not None
            request.transport.abort()
        headers = {"X-ClickHouse-Timezone": "UTC", "X-ClickHouse-Summary": "{}"}
        words = (request.query.get("query", "") + body[:80].decode(errors="replace")).split()
        if words and words[0].lower() in _SELECTS:
            headers["X-ClickHouse-Format"] = "TabSeparated"
        return web.Response(body=result, headers=headers)

    def _take(self, fault: str) -> bool:
        left = self._faults[fault]
        self._faults[fault] = max(0, left - 1)
        return left > 0

    def _run(self, url: Mapping[str, str], body: bytes, insert: re.Match[bytes] | None) -> bytes:
        connection = chdb.connect(self._folder)
        try:
            if url.get("database"):
                connection.query(f"USE `{url['database']}`")
            settings = {
                name: value
                for name, value in url.items()
                if name not in _TRANSPORT and not name.startswith("param_")
            }
            # As the server checks all of them before it applies any.
            for name in sorted(settings, key="readonly".__eq__):
                connection.query(f"SET {name} = '{settings[name]}'")
            if insert:
                return _ingest(connection, insert[1].decode(), body[insert.end() :])
            sql = "\n".join(part for part in (url.get("query", ""), body.decode()) if part)
            parameters = {name[6:]: value for name, value in url.items() if name[:6] == "param_"}
            answer: bytes = connection.query(sql, "TabSeparated", params=parameters).bytes() or b""
            return answer
        finally:
            connection.close()


def _ingest(connection: Any, statement: str, block: bytes) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".native", delete=False) as file:
        file.write(block)
    try:
        connection.query(f"{statement} FROM INFILE '{file.name}' FORMAT Native")
    finally:
        Path(file.name).unlink()
    return b""


def _failure(status: int, code: int, text: str) -> web.Response:
    return web.Response(
        status=status,
        text=f"Code: {code}. DB::Exception: {text}",
        headers={"X-ClickHouse-Exception-Code": str(code)},
    )


async def main(folder: str, password: str, certificate: str) -> None:
    """Serve until standard input ends."""
    bridge = Bridge(folder=folder, password=password)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/ping", bridge.ping)
    app.router.add_post("/faults", bridge.set_faults)
    app.router.add_route("*", "/", bridge.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    for context in (None, tls):
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    plain_port, tls_port = (address[1] for address in runner.addresses)
    sys.stdout.write(f"{plain_port} {tls_port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
