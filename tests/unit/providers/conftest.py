"""A provider whose server is a script: what it sends is noted, what it gets is given."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from millrace.providers.entry import ModelEntry, ProviderEntry, Timeouts
from millrace.providers.http_provider import HttpProvider
from millrace.providers.protocol import Completion, ModelRequest, ProviderEvent
from millrace.providers.registry import build_provider
from millrace.providers.wires.wire import ReplyLimits
from millrace.schemas.errors import ProviderError
from millrace.schemas.message import Message

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


@dataclass
class Exchange:
    """One call: what was sent, and what came of it."""

    request: httpx.Request
    events: list[ProviderEvent] = field(default_factory=list)
    error: ProviderError | None = None

    @property
    def sent(self) -> dict[str, Any]:
        """The JSON body."""
        body: dict[str, Any] = json.loads(self.request.content)
        return body

    @property
    def completion(self) -> Completion:
        """The reply, which must have come without error."""
        assert self.error is None
        last = self.events[-1]
        assert isinstance(last, Completion)
        return last


class ScriptedServer:
    """Answers every request with the same reply, but for paths that have one of their own."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.status = 200
        self.headers: Mapping[str, str] = {}
        self.reply: Sequence[bytes | Exception] = ()
        self.replies: dict[str, Sequence[bytes | Exception]] = {}

    def provider(
        self,
        wire: Any,
        *,
        base_url: str = "http://server/base",
        environ: Mapping[str, str] | None = None,
        model: ModelEntry | None = None,
        limits: ReplyLimits | None = None,
        **entry: Any,
    ) -> HttpProvider:
        """A provider that speaks this wire with the server."""
        return build_provider(
            "scripted",
            ProviderEntry(
                wire=wire,
                base_url=base_url,
                models={"m": model or ModelEntry()},
                timeouts=Timeouts(),
                **entry,
            ),
            client=httpx.AsyncClient(transport=httpx.MockTransport(self._answer)),
            environ=environ or {},
            limits=limits,
            now=lambda: NOW,
        )

    async def ask(
        self,
        wire: Any,
        *reply: bytes | Exception,
        request: ModelRequest | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Exchange:
        """Make one call and take down all of it."""
        self.status, self.headers, self.reply = status, headers or {}, reply
        provider = self.provider(wire, **settings)
        events: list[ProviderEvent] = []
        error = None
        try:
            async for event in provider.ask(request or hello()):
                events.append(event)  # noqa: PERF401 - what came before an error counts
        except ProviderError as raised:
            error = raised
        finally:
            await provider.aclose()
        return Exchange(self.requests[-1], events, error)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.get(request.url.path, self.reply)
        return httpx.Response(self.status, headers=self.headers, stream=_Pieces(reply))


def hello(*messages: Message, **settings: Any) -> ModelRequest:
    """A small request."""
    return ModelRequest(
        model=settings.pop("model", "m"),
        messages=messages or (Message(role="user", content="Hello"),),
        **settings,
    )


@pytest.fixture
def server() -> ScriptedServer:
    """A scripted server."""
    return ScriptedServer()
