"""The process's own HTTP server: is it alive, is it ready, what is it doing.

The process that holds the embedded ClickHouse also answers SQL here, because its engine lets no
second process open the data; only with the token that stands in a file of the same user.
"""

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import orjson
from aiohttp import web

from millrace.schemas.errors import ConfigurationError, PipelineError, SinkUnavailableError
from millrace.sinks.query import ResultSet
from millrace.streams.metrics import CONTENT_TYPE
from millrace.streams.settings import WebSettings
from millrace.streams.status import PipelineStatus


class Query(Protocol):
    """Runs a read-only query."""

    async def __call__(self, sql: str, *, limit: int | None = None) -> ResultSet:
        """Answer with at most `limit` rows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What the server tells; each is asked anew for every request."""

    healthy: Callable[[], str | None]
    """None while the process works, else why it does not."""
    ready: Callable[[], list[str]]
    """What is not ready yet."""
    status: Callable[[], PipelineStatus]
    metrics: Callable[[], bytes]
    query: Query | None = None


class WebServer:
    """Serves `/health`, `/ready`, `/status`, `/metrics` and, where there is an engine, `/sql`."""

    def __init__(self, *, settings: WebSettings, probes: Probes) -> None:
        self._settings = settings
        self._probes = probes
        self._runner: web.AppRunner | None = None
        self.token = secrets.token_urlsafe(24)
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/status", self._status)
        app.router.add_get("/metrics", self._metrics)
        if self._probes.query is not None:
            app.router.add_post("/sql", self._sql)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, self._settings.host, self._settings.port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigurationError(
                f"web.port: cannot listen on {self._settings.host}:{self._settings.port}: "
                f"{error.strerror}; set web.port to another, or 0 for any"
            ) from error
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        problem = self._probes.healthy()
        return _json({"healthy": problem is None, "problem": problem}, ok=problem is None)

    async def _ready(self, _: web.Request) -> web.Response:
        missing = self._probes.ready()
        return _json({"ready": not missing, "waiting_for": missing}, ok=not missing)

    async def _status(self, _: web.Request) -> web.Response:
        return _json(asdict(self._probes.status()), ok=True)

    async def _metrics(self, _: web.Request) -> web.Response:
        body = self._probes.metrics()
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE})

    async def _sql(self, request: web.Request) -> web.Response:
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            return web.json_response({"error": "wrong or missing token"}, status=401)
        query = self._probes.query
        try:
            body = orjson.loads(await request.read())
            sql, limit = str(body["query"]), int(body.get("limit", 1000))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            text = 'send {"query": "SELECT …", "limit": 1000}'
            return web.json_response({"error": text}, status=400)
        if query is None:
            return web.json_response({"error": "no engine here"}, status=404)
        try:
            answer = await query(sql, limit=limit)
        except SinkUnavailableError as error:
            return web.json_response({"error": error.message}, status=503)
        except PipelineError as error:
            return web.json_response({"error": error.message}, status=400)
        return _json(
            {
                "columns": answer.columns,
                "types": answer.types,
                "rows": answer.rows,
                "truncated": answer.truncated,
            },
            ok=True,
        )


def _json(value: Any, *, ok: bool) -> web.Response:
    return web.Response(
        body=orjson.dumps(value, default=str),
        status=200 if ok else 503,
        content_type="application/json",
    )
