"""The process's own HTTP server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import aiohttp
import pytest

from millrace.schemas.errors import ConfigurationError, SinkError, SinkUnavailableError
from millrace.sinks.query import ResultSet
from millrace.streams.settings import WebSettings
from millrace.streams.status import PipelineStatus
from millrace.streams.web import Probes, Query, WebServer


class Part:
    """What the server asks about; a test sets it."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self.missing: list[str] = []
        self.asked: list[tuple[str, int | None]] = []
        self.error: SinkError | None = None

    async def query(self, sql: str, *, limit: int | None = None) -> ResultSet:
        self.asked.append((sql, limit))
        if self.error is not None:
            raise self.error
        return ResultSet(
            columns=("n", "cost"),
            types=("UInt8", "Decimal"),
            rows=[[1, Decimal("0.10")]],
            truncated=False,
        )

    def probes(self, query: Query | None) -> Probes:
        return Probes(
            healthy=lambda: self.problem,
            ready=lambda: self.missing,
            status=lambda: PipelineStatus(in_flight=3, completed=2, cost_usd=Decimal("0.5")),
            metrics=lambda: b"millrace_calls_total 3.0\n",
            query=query,
        )


@asynccontextmanager
async def served(
    part: Part, *, sql: bool = True
) -> AsyncIterator[tuple[WebServer, aiohttp.ClientSession]]:
    """The server on a free port, and a client of it."""
    probes = part.probes(part.query if sql else None)
    async with (
        WebServer(settings=WebSettings(port=0), probes=probes) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        yield server, client


async def test_health_and_readiness_are_asked_anew_each_time() -> None:
    """200 while all is well, else 503 with the reason."""
    part = Part()
    async with served(part) as (_, client):
        async with client.get("/health") as answer:
            assert (answer.status, (await answer.json())["healthy"]) == (200, True)
        part.problem, part.missing = "Kafka is gone", ["sink"]
        async with client.get("/health") as answer:
            assert (answer.status, (await answer.json())["problem"]) == (503, "Kafka is gone")
        async with client.get("/ready") as answer:
            assert (answer.status, (await answer.json())["waiting_for"]) == (503, ["sink"])


async def test_metrics_are_in_the_format_that_prometheus_reads() -> None:
    """As the process gives them."""
    async with served(Part()) as (_, client), client.get("/metrics") as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert await answer.text() == "millrace_calls_total 3.0\n"


async def test_status_shows_the_figures() -> None:
    """Money as text."""
    async with served(Part()) as (_, client), client.get("/status") as answer:
        figures = await answer.json()

    assert (figures["in_flight"], figures["completed"], figures["cost_usd"]) == (3, 2, "0.5")


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic x", "Bearer ü"])
async def test_sql_needs_the_token(header: str | None) -> None:
    """Without it nothing reaches the engine."""
    part = Part()
    headers = {} if header is None else {"authorization": header}
    async with served(part) as (_, client):
        body = {"query": "SELECT 1"}
        async with client.post("/sql", json=body, headers=headers) as answer:
            assert answer.status == 401

    assert part.asked == []


async def test_sql_answers_with_columns_and_rows() -> None:
    """Decimals as text; at most as many rows as asked for."""
    part = Part()
    async with served(part) as (server, client):
        headers = {"authorization": f"Bearer {server.token}"}
        body = {"query": "SELECT 1", "limit": 5}
        async with client.post("/sql", json=body, headers=headers) as answer:
            said = await answer.json()

    assert (said["columns"], said["rows"]) == (["n", "cost"], [[1, "0.10"]])
    assert part.asked == [("SELECT 1", 5)]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"null", b'{"query": "x", "limit": "many"}', b"\xff"]
)
async def test_a_question_that_makes_no_sense_is_the_client_s_fault(body: bytes) -> None:
    """400 with how it is done."""
    async with served(Part()) as (server, client):
        headers = {"authorization": f"Bearer {server.token}"}
        async with client.post("/sql", data=body, headers=headers) as answer:
            assert answer.status == 400
            assert "query" in (await answer.json())["error"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SinkUnavailableError("not now"), 503),
        (SinkError("no such table", code="invalid_request"), 400),
    ],
)
async def test_what_the_engine_refuses_is_told(error: SinkError, status: int) -> None:
    """Come back later, or mend the query."""
    part = Part()
    part.error = error
    async with served(part) as (server, client):
        headers = {"authorization": f"Bearer {server.token}"}
        async with client.post("/sql", json={"query": "x"}, headers=headers) as answer:
            assert (answer.status, (await answer.json())["error"]) == (status, error.message)


async def test_without_an_engine_there_is_no_sql() -> None:
    """The path is not there."""
    async with served(Part(), sql=False) as (server, client):
        headers = {"authorization": f"Bearer {server.token}"}
        async with client.post("/sql", json={"query": "x"}, headers=headers) as answer:
            assert answer.status == 404


async def test_a_port_that_is_taken_is_named() -> None:
    """With the setting to change."""
    async with served(Part()) as (server, _):
        port = int(server.url.rsplit(":", 1)[1])
        with pytest.raises(ConfigurationError, match=rf"web\.port: cannot listen .*:{port}"):
            async with WebServer(settings=WebSettings(port=port), probes=Part().probes(None)):
                pass
