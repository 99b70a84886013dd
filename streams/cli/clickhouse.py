"""Questions to ClickHouse: a server, the embedded engine, or the process that holds the engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
from pydantic import TypeAdapter, ValidationError

from millrace.schemas.errors import ConfigurationError, SinkError, SinkUnavailableError
from millrace.sinks.query import ClickHouseReader, readable
from millrace.sinks.settings import ClickHouseSettings
from millrace.streams.engine_owner import EngineOwner, find_owner

ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Columns and JSON-safe rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    truncated: bool = False
    """Whether there were more rows than asked for."""


_ANSWER = TypeAdapter(Answer)


async def ask(settings: ClickHouseSettings, sql: str, *, limit: int) -> Answer:
    """Answer one statement that only reads.

    Raises:
        SinkError: The statement is refused, or ClickHouse finds fault with it.
        SinkUnavailableError: ClickHouse cannot be reached.
        ConfigurationError: The embedded engine has kept nothing yet.
    """
    readable(sql, embedded=settings.embedded)
    if settings.embedded:
        owner = find_owner(settings)
        if owner is not None:
            return await _ask_owner(owner, sql, limit=limit)
        folder = engine_folder(settings)
        if not folder.exists():
            raise ConfigurationError(
                f"there is nothing in {str(folder)!r} yet: run the pipeline first (`millrace "
                "up`), or say where ClickHouse is with CLICKHOUSE_URL"
            )
    reader = ClickHouseReader(settings=settings)
    try:
        await reader.open()
        found = await reader.query(sql, limit=limit)
    finally:
        await reader.aclose()
    return Answer(found.columns, found.rows, found.truncated)


def engine_folder(settings: ClickHouseSettings) -> Path:
    """The embedded engine's folder."""
    return Path(unquote(settings.parts.path))


async def _ask_owner(owner: EngineOwner, sql: str, *, limit: int) -> Answer:
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS) as client:
            reply = await client.post(
                f"{owner.url.rstrip('/')}/sql",
                json={"query": sql, "limit": limit},
                headers={"authorization": f"Bearer {owner.token}"},
            )
    except httpx.HTTPError as error:
        raise SinkUnavailableError(
            f"the pipeline (process {owner.pid}) holds ClickHouse and does not answer at "
            f"{owner.url}: {type(error).__name__}; try again, or stop it and ask then"
        ) from error
    if reply.is_success:
        try:
            return _ANSWER.validate_json(reply.content)
        except ValidationError as error:
            raise SinkError(f"the pipeline at {owner.url} gave no table for an answer") from error
    raise SinkError(_refusal(reply), code="invalid_request" if reply.is_client_error else None)


def _refusal(reply: httpx.Response) -> str:
    try:
        body = reply.json()
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message) if message else f"the pipeline answered {reply.status_code}"
