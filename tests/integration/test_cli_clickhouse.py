"""`millrace sql` and `millrace report` on the embedded engine, at rest and held by a process."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from millrace.schemas.response import Response
from millrace.schemas.usage import Usage
from millrace.sinks.clickhouse import ClickHouseSink
from millrace.sinks.query import ClickHouseReader
from millrace.sinks.settings import ClickHouseSettings
from millrace.streams.engine_owner import announce_owner
from millrace.streams.settings import WebSettings
from millrace.streams.status import PipelineStatus
from millrace.streams.web import Probes, WebServer

FILLING = """
import asyncio, sys
from test_cli_clickhouse import fill
asyncio.run(fill(sys.argv[1]))
"""


async def fill(url: str) -> None:
    """Store two endings."""
    sink = ClickHouseSink(settings=ClickHouseSettings(url=SecretStr(url)))
    await sink.open()
    now = datetime.now(UTC)
    for request_id, status in (("1", "completed"), ("2", "failed")):
        response = Response.model_validate(
            {
                "request_id": request_id,
                "status": status,
                "task": "general",
                "usage": Usage(input_tokens=3, output_tokens=4),
                "cost_usd": Decimal("0.25"),
                "accepted_at": now,
                "completed_at": now,
            }
        )
        await sink.write([response])
    await sink.aclose()


async def _run(url: str, *arguments: str) -> tuple[int, bytes, str]:
    script = "from millrace.streams.cli.main import main; main()"
    return await _python(script, *arguments, environ={"CLICKHOUSE_URL": url})


async def _python(script: str, *arguments: str, environ: dict[str, str]) -> tuple[int, bytes, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", script, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", **environ},
    )
    out, err = await process.communicate()
    return process.returncode or 0, out, err.decode()


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """An embedded engine with two endings, which no process holds."""
    url = f"chdb://{tmp_path}/engine"
    environ = {"PYTHONPATH": str(Path(__file__).parent)}
    code, _, told = await _python(FILLING, url, environ=environ)
    assert code == 0, told
    return url


@asynccontextmanager
async def _held(url: str) -> AsyncIterator[None]:
    """This process holds the engine, and answers for it."""
    settings = ClickHouseSettings(url=SecretStr(url))
    reader = ClickHouseReader(settings=settings)
    await reader.open()
    probes = Probes(
        healthy=lambda: None,
        ready=list,
        status=PipelineStatus,
        metrics=bytes,
        query=reader.query,
    )
    async with WebServer(settings=WebSettings(port=0), probes=probes) as web:
        withdraw = announce_owner(settings, url=web.url, token=web.token)
        try:
            yield
        finally:
            withdraw()
            await reader.aclose()


QUERY = "SELECT request_id, status FROM responses ORDER BY request_id"
ROWS = [{"request_id": "1", "status": "completed"}, {"request_id": "2", "status": "failed"}]


async def test_the_engine_answers_at_rest_and_through_the_process_that_holds_it(url: str) -> None:
    """The same rows, one JSON object each; the reports too."""
    at_rest = await _run(url, "sql", "--json", QUERY)
    reported = await _run(url, "report", "endings", "--json")
    async with _held(url):
        held = await _run(url, "sql", "--json", QUERY)
        reported_held = await _run(url, "report", "endings", "--json")
        cut = await _run(url, "sql", "--json", "--limit", "1", QUERY)

    for code, out, told in (at_rest, held):
        assert code == 0, told
        assert [orjson.loads(line) for line in out.splitlines()] == ROWS
    assert reported[0] == 0, reported[2]
    assert reported[1] == reported_held[1]
    (document,) = orjson.loads(reported[1])
    assert {row["status"]: row["cost_usd"] for row in document["rows"]}.keys() == {
        "completed",
        "failed",
    }
    assert cut[1].count(b"\n") == 1
    assert "only the first 1 rows" in cut[2]


async def test_a_statement_that_fails_says_so(url: str) -> None:
    """Refused ones as wrong usage, faulty ones as failures, either way of asking."""
    async with _held(url):
        refused = await _run(url, "sql", "DROP TABLE responses")
        faulty = await _run(url, "sql", "SELECT nothing FROM responses")
    faulty_at_rest = await _run(url, "sql", "SELECT nothing FROM responses")

    assert refused[0] == 2
    assert faulty[0] == faulty_at_rest[0] == 2
    for _, out, told in (refused, faulty, faulty_at_rest):
        assert out == b""
        assert told.startswith("millrace: ")
        assert "Traceback" not in told


async def test_without_data_the_sentence_says_how_to_get_some(tmp_path: Path) -> None:
    """And no empty engine is made by asking."""
    code, _, told = await _run(f"chdb://{tmp_path}/none", "sql", "SELECT 1")

    assert code == 2
    assert "run the pipeline first" in told
    assert not (tmp_path / "none").exists()
