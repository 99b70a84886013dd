"""One connection to ClickHouse, its blocking calls in a thread of its own, one after another."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import unquote

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from millrace.schemas.errors import PipelineError, SinkUnavailableError
from millrace.sinks.settings import ClickHouseSettings
from millrace.sinks.translation import FOREIGN, opening_failed

_P = ParamSpec("_P")
_T = TypeVar("_T")

_MIB = 1 << 20
# What a server keeps gigabytes for is idle memory in a process that also does other work.
_EMBEDDED_CACHES = {
    "mark_cache_size": 32 * _MIB,
    "primary_index_cache_size": 32 * _MIB,
    "index_mark_cache_size": 8 * _MIB,
    "query_condition_cache_size": 8 * _MIB,
    "compiled_expression_cache_size": 8 * _MIB,
    "mmap_cache_size": 64,
    "background_pool_size": 1,
    "background_schedule_pool_size": 1,
}


def connect(settings: ClickHouseSettings) -> Client:
    """Open a connection that is in no database yet; blocks.

    Raises:
        SinkUnavailableError: Nobody answers, or another process has the path open.
        ConfigurationError: User or password are refused, or this process has another path open.
    """
    try:
        if settings.embedded:
            return _embedded(settings)
        return _server(settings)
    except FOREIGN as error:
        raise opening_failed(error, location=settings.location) from error


def _embedded(settings: ClickHouseSettings) -> Client:
    options = {"max_server_memory_usage": settings.engine_memory_bytes, **_EMBEDDED_CACHES}
    client = clickhouse_connect.get_client(
        interface="chdb", path=str(settings.folder), chdb_options=options
    )
    for name, value in settings.server_settings.items():
        client.set_client_setting(name, value)
    return client


def _server(settings: ClickHouseSettings) -> Client:
    parts = settings.parts
    return clickhouse_connect.get_client(
        interface=parts.scheme,
        host=parts.hostname,
        port=parts.port or (8443 if parts.scheme == "https" else 8123),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else "",
        settings=dict(settings.server_settings),
        connect_timeout=settings.connect_timeout_seconds,
        send_receive_timeout=settings.request_timeout_seconds,
        verify=settings.verify_tls,
        ca_cert=str(settings.ca_file) if settings.ca_file else None,
        client_cert=str(settings.client_certificate) if settings.client_certificate else None,
        client_cert_key=str(settings.client_key) if settings.client_key else None,
        # A session would forbid two requests at a time; nothing here needs one.
        autogenerate_session_id=False,
        dedicated_pool=True,
        # The batch's owner decides when to try again.
        query_retries=0,
        client_name="millrace",
    )


class Connection:
    """A connection that an event loop can use.

    Calls run one at a time in the order they were made. A call that is cancelled runs on in its
    thread; the next one waits for it.
    """

    def __init__(self, *, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._threads: ThreadPoolExecutor | None = None

    async def open(self, prepare: Callable[[Client], None]) -> None:
        """Connect, then prepare the connection in the same thread. Harmless to repeat.

        Raises:
            SinkUnavailableError: Nobody answers, or another process has the path open.
            ConfigurationError: A setting must be changed first.
        """
        await self._in_thread(self._connect, prepare)

    async def call(
        self, work: Callable[Concatenate[Client, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Do the work with the client; what it raises is its own to translate.

        Raises:
            SinkUnavailableError: The connection is not open.
        """
        client = self._client
        if client is None:
            raise SinkUnavailableError(
                f"the connection to {self._settings.location} is not open; open it first"
            )
        return await self._in_thread(lambda: work(client, *args, **kwargs))

    async def aclose(self) -> None:
        """Close once the calls under way have ended. Harmless to repeat."""
        threads, self._threads = self._threads, None
        if threads is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(threads, self._disconnect)
        finally:
            threads.shutdown(wait=False)

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connect(self, prepare: Callable[[Client], None]) -> None:
        if self._client is not None:
            return
        client = connect(self._settings)
        try:
            prepare(client)
        except FOREIGN as error:
            client.close()
            raise opening_failed(error, location=self._settings.location) from error
        except PipelineError:
            client.close()
            raise
        self._client = client

    async def _in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="clickhouse")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))
