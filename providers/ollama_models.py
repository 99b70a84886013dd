"""The models that an Ollama server holds: listing, downloading, loading them.

Source: Ollama's API documentation (tags, pull, generate).
"""

import re
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from millrace.providers.failures import from_document, truncated
from millrace.providers.http_provider import HttpProvider
from millrace.providers.plain_reply import PlainReply
from millrace.providers.wires.documents import (
    MISSHAPEN,
    EncodedRequest,
    count,
    misshapen,
    parse,
)
from millrace.providers.wires.frames import LineFrames
from millrace.schemas.errors import ProviderError, RequestRefusedError

_MAX_BYTES = 8 * 2**20
_LIST_SECONDS = 10.0
_QUIET_SECONDS = 600.0
"""How long a download may go without progress: large files are checked without a word."""
_LOAD_SECONDS = 600.0
_NANOSECONDS_PER_MS = 1e6
_NOT_IN_LIBRARY = re.compile(
    r"file does not exist|manifest unknown|not found|invalid model name", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that the server has."""

    name: str
    size_bytes: int | None
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """A step of a download, or how far one of its files has come."""

    model: str
    status: str
    """In the server's words, the last one being `success`."""
    digest: str | None = None
    """The file's, where this is about one."""
    total_bytes: int | None = None
    completed_bytes: int | None = None


class OllamaModels:
    """Sees to the models of one Ollama server, through its provider's connections.

    Raises only `ProviderError`s; cancelling a download breaks it off, and the server goes on
    from there the next time.
    """

    def __init__(self, *, server: HttpProvider, keep_alive_seconds: int | None = None) -> None:
        self._server = server
        self._keep_alive = keep_alive_seconds

    async def list(self) -> tuple[StoredModel, ...]:
        """The models that are there."""
        request = EncodedRequest("/api/tags", b"")
        async with self._server.exchange("GET", request, seconds=_LIST_SECONDS) as reply:
            document = parse(await reply.read(max_bytes=_MAX_BYTES))
        try:
            return tuple(
                StoredModel(str(item["name"]), count(item.get("size")), item.get("digest"))
                for item in document["models"] or ()
            )
        except MISSHAPEN as error:
            raise misshapen(error) from error

    async def loaded(self) -> tuple[str, ...]:
        """The models that are in memory."""
        request = EncodedRequest("/api/ps", b"")
        async with self._server.exchange("GET", request, seconds=_LIST_SECONDS) as reply:
            document = parse(await reply.read(max_bytes=_MAX_BYTES))
        try:
            return tuple(str(item["name"]) for item in document["models"] or ())
        except MISSHAPEN as error:
            raise misshapen(error) from error

    async def missing(self, models: Iterable[str]) -> tuple[str, ...]:
        """Which of these models are not there; a name without a tag means `latest`."""
        there = {_tagged(model.name) for model in await self.list()}
        return tuple(model for model in models if _tagged(model) not in there)

    async def pull(self, model: str) -> AsyncGenerator[PullProgress, None]:
        """Download a model, and tell how far it has come; it is there after the last step.

        Raises:
            RequestRefusedError: There is no such model to download (`model_not_found`).
            ProviderError: The download failed, or broke off.
        """
        request = _post("/api/pull", {"model": model, "stream": True})
        status = ""
        async with self._server.exchange(
            "POST", request, seconds=_QUIET_SECONDS, idle_seconds=_QUIET_SECONDS
        ) as reply:
            async for line in _lines(reply):
                progress = _progress(model, line)
                status = progress.status
                yield progress
        if status != "success":
            raise truncated(f" (the download of {model!r} ended after {status!r})")

    async def pull_missing(
        self, models: Iterable[str], *, on_progress: Callable[[PullProgress], None]
    ) -> tuple[str, ...]:
        """Download what is not there, one after the other; the names of what was downloaded.

        Raises:
            ProviderError: As `list` and `pull`; those before the failed one are there.
        """
        absent = await self.missing(models)
        for model in absent:
            async for progress in self.pull(model):
                on_progress(progress)
        return absent

    async def warm_up(self, model: str) -> float | None:
        """Load a model into memory; how long that took, in milliseconds, where the server says.

        Raises:
            ProviderError: It is not there, or there is not enough memory for it.
        """
        body: dict[str, Any] = {"model": model, "stream": False}
        if self._keep_alive is not None:
            body["keep_alive"] = self._keep_alive
        async with self._server.exchange(
            "POST", _post("/api/generate", body), seconds=_LOAD_SECONDS
        ) as reply:
            document = parse(await reply.read(max_bytes=_MAX_BYTES))
        try:
            if document.get("error"):
                raise from_document(document)
            load_ns = count(document.get("load_duration"))
        except MISSHAPEN as error:
            raise misshapen(error) from error
        return None if load_ns is None else load_ns / _NANOSECONDS_PER_MS


async def _lines(reply: PlainReply) -> AsyncGenerator[Any, None]:
    frames = LineFrames(max_bytes=_MAX_BYTES)
    while piece := await reply.next_piece():
        for line in frames.feed(piece):
            yield parse(line)
    for line in frames.close():
        yield parse(line)


def _progress(model: str, line: Any) -> PullProgress:
    try:
        if line.get("error"):
            raise _pull_failed(model, line)
        return PullProgress(
            model=model,
            status=str(line["status"])[:200],
            digest=line.get("digest"),
            total_bytes=count(line.get("total")),
            completed_bytes=count(line.get("completed")),
        )
    except MISSHAPEN as error:
        raise misshapen(error) from error


def _pull_failed(model: str, line: dict[str, Any]) -> ProviderError:
    if _NOT_IN_LIBRARY.search(str(line["error"])):
        return RequestRefusedError(
            f"there is no model {model!r} to download: check its name in the entry's models",
            code="model_not_found",
        )
    return from_document(line)


def _post(path: str, body: dict[str, Any]) -> EncodedRequest:
    return EncodedRequest(path, orjson.dumps(body))


def _tagged(model: str) -> str:
    # The tag follows the last slash; a colon before it belongs to a registry's port.
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
