"""Stores to hold the contract against, and records to put into them."""

import contextlib
import itertools
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest
import trustme

from millrace.schemas.dead_letter import Blob, DeadLetter, SourceHeader
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.sinks.clickhouse import ClickHouseSink
from millrace.sinks.connection import connect
from millrace.sinks.files import JsonLinesSink, read_rows
from millrace.sinks.protocol import ReceivedRequest, Sink
from millrace.sinks.query import ClickHouseReader
from millrace.sinks.settings import ClickHouseSettings
from millrace.sinks.tables import Table

PASSWORD = "p@ss/w:rd"  # noqa: S105  # of a server that lives as long as the tests
NOW = datetime.now(UTC).replace(microsecond=0)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Make:
    """Makes records; what a test does not say is the same in all of them."""

    now: datetime = NOW

    def usage(self, request_id: str = "r1", event: str = "spent", **fields: Any) -> UsageEvent:
        given = {
            "member": 0,
            "attempt": 1,
            "invocation": "i1",
            "provider": "openai",
            "model": "gpt",
            "hardware": "cloud",
            "task": "general",
            "strategy": "auto",
            "usage": {"input_tokens": 100, "cached_tokens": 40, "output_tokens": 10},
            "cost_usd": Decimal("0.5"),
            "cost_source": "price_table",
            "started_at": self.now,
            "deadline": self.now + timedelta(hours=1),
            **({"status": "completed", "finished_at": self.now} if event == "spent" else {}),
            **fields,
        }
        row_id = f"{request_id}/{given['member']}/{given['attempt']}/{given['invocation']}"
        return UsageEvent.model_validate(
            {"event": event, "request_id": request_id, "row_id": row_id, **given}
        )

    def response(self, request_id: str = "r1", **fields: Any) -> Response:
        given = {
            "status": "completed",
            "task": "general",
            "provider": "openai",
            "model": "gpt",
            "completed_at": self.now,
            **fields,
        }
        return Response.model_validate({"request_id": request_id, **given})

    def attempt(self, attempt: int = 1, status: str = "completed", **fields: Any) -> dict[str, Any]:
        return {"attempt": attempt, "provider": "openai", "model": "gpt", "status": status} | fields

    def request(
        self, request_id: str = "r1", offset: int = 0, accepted_at: datetime = NOW, **fields: Any
    ) -> ReceivedRequest:
        request = Request.model_validate({"prompt": "Why is the sky blue?", **fields})
        return ReceivedRequest(
            request=request,
            request_id=request_id,
            accepted_at=accepted_at,
            topic="llm.requests",
            partition=0,
            offset=offset,
            size_bytes=len(request.encode()),
        )

    def dead_letter(
        self, offset: int = 0, value: bytes | None = b"no JSON", **fields: Any
    ) -> DeadLetter:
        given = {
            "topic": "llm.requests",
            "partition": 0,
            "key": Blob.of(b"k1"),
            "value": None if value is None else Blob.of(value),
            "headers": (SourceHeader(name="h", value=Blob.of(b"hv")),),
            "error": ErrorInfo(code="invalid_json", message="no JSON at position 0"),
            "dead_at": self.now,
            **fields,
        }
        return DeadLetter.model_validate({"offset": offset, **given})


@pytest.fixture
def make() -> Make:
    """Records to write."""
    return Make()


class Store(Protocol):
    """A sink, and what it holds."""

    sink: Sink

    async def rows(self, table: Table) -> list[dict[str, Any]]: ...


class ClickHouseStore:
    """A database of its own."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self.settings = settings
        self.sink = ClickHouseSink(settings=settings)
        self.reader = ClickHouseReader(settings=settings)

    async def select(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        await self.reader.open()
        answer = await self.reader.query(sql, parameters=parameters)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    async def rows(self, table: Table) -> list[dict[str, Any]]:
        return await self.select(f"SELECT * FROM {table.name} FINAL")  # noqa: S608  # our own names

    async def aclose(self) -> None:
        await self.reader.aclose()
        await self.sink.aclose()


class FileStore:
    """A folder of its own."""

    def __init__(self, folder: Path, *, store_text: bool = True) -> None:
        self.folder = folder
        self.sink = JsonLinesSink(folder=folder, store_text=store_text)

    async def rows(self, table: Table) -> list[dict[str, Any]]:
        return [dict(row) for row in read_rows(self.folder, table)]

    async def aclose(self) -> None:
        await self.sink.aclose()


@dataclass(frozen=True)
class BridgeProcess:
    """Where the bridge listens."""

    port: int
    tls_port: int
    ca_file: Path

    @property
    def url(self) -> str:
        return f"http://millrace:p%40ss%2Fw%3Ard@127.0.0.1:{self.port}"

    def fault(self, name: str, inserts: int) -> None:
        """Make so many of the next inserts go wrong."""
        request = urllib.request.Request(  # our own process
            f"http://127.0.0.1:{self.port}/faults?{name}={inserts}", method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            assert answer.status == 200


@pytest.fixture(scope="session")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """A process that speaks ClickHouse's HTTP interface, with the real engine in it."""
    folder = tmp_path_factory.mktemp("bridge")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        folder / "server.pem"
    )
    script = Path(__file__).with_name("clickhouse_bridge.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(folder / "engine"), PASSWORD, str(folder / "server.pem")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port, tls_port = process.stdout.readline().split()
        yield BridgeProcess(int(port), int(tls_port), folder / "ca.pem")
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def engine_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one path this process opens the embedded engine on."""
    return tmp_path_factory.mktemp("embedded") / "engine"


OpenStore = Callable[..., Awaitable[Store]]
OpenClickHouse = Callable[..., Awaitable[ClickHouseStore]]


def clickhouse_url(kind: str, request: pytest.FixtureRequest) -> str:
    """Where the engine of this kind is; skips the test where there is none."""
    if kind == "embedded":
        return f"chdb://{request.getfixturevalue('engine_folder')}"
    if kind == "http":
        return str(request.getfixturevalue("bridge").url)
    url = os.environ.get("MILLRACE_TEST_CLICKHOUSE_URL")
    if not url:
        pytest.skip("MILLRACE_TEST_CLICKHOUSE_URL names no server")
    return url


@contextlib.asynccontextmanager
async def opening_clickhouse(url: str) -> AsyncIterator[OpenClickHouse]:
    """Open sinks on a database of one's own; close them and drop it in the end."""
    database = f"t{os.getpid()}_{next(_numbers)}"
    stores: list[ClickHouseStore] = []

    async def open_store(**fields: Any) -> ClickHouseStore:
        given = {"url": url, "database": database} | fields
        store = ClickHouseStore(ClickHouseSettings.model_validate(given))
        stores.append(store)
        await store.sink.open()
        return store

    try:
        yield open_store
    finally:
        for store in stores:
            await store.aclose()
        client = connect(ClickHouseSettings.model_validate({"url": url}))
        client.command(f"DROP DATABASE IF EXISTS {database} SYNC")
        client.close()


@pytest.fixture(params=["embedded", "http", "server"])
async def open_clickhouse(request: pytest.FixtureRequest) -> AsyncIterator[OpenClickHouse]:
    """Opens sinks on one database: in the process, over HTTP, on a server where one is named."""
    async with opening_clickhouse(clickhouse_url(request.param, request)) as open_store:
        yield open_store


@pytest.fixture
async def embedded_clickhouse(request: pytest.FixtureRequest) -> AsyncIterator[OpenClickHouse]:
    """Opens sinks on one database in the process."""
    async with opening_clickhouse(clickhouse_url("embedded", request)) as open_store:
        yield open_store


@pytest.fixture
async def http_clickhouse(request: pytest.FixtureRequest) -> AsyncIterator[OpenClickHouse]:
    """Opens sinks on one database over HTTP."""
    async with opening_clickhouse(clickhouse_url("http", request)) as open_store:
        yield open_store


@pytest.fixture(params=["files", "embedded", "http", "server"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Opens sinks of every kind on one store of the test's own."""
    if request.param != "files":
        async with opening_clickhouse(clickhouse_url(request.param, request)) as open_clickhouse:
            yield open_clickhouse
        return
    stores: list[FileStore] = []

    async def open_files(**fields: Any) -> FileStore:
        store = FileStore(tmp_path / "rows", **fields)
        stores.append(store)
        await store.sink.open()
        return store

    yield open_files
    for store in stores:
        await store.aclose()
