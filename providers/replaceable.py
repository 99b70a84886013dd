"""A provider that can be changed while calls are under way."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from millrace.providers.protocol import (
    EmbeddingReply,
    EmbeddingRequest,
    ModelRequest,
    ModelServer,
    ProviderEvent,
)
from millrace.schemas.provider_health import KeyAside


class ReplaceableProvider:
    """Implements `ModelServer`: hands each call to the server that is current when it begins.

    A call goes on with the server that it began with. One that was replaced is closed when the
    last of its calls has ended. Iterators from `ask` must be closed, as the protocol asks.
    """

    def __init__(self, server: ModelServer) -> None:
        self.name = server.name
        self._current = _Held(server)
        self._retired: set[_Held] = set()

    async def replace(self, server: ModelServer) -> None:
        """Make `server` the current one; it belongs to this provider from here on."""
        before, self._current = self._current, _Held(server)
        self._retired.add(before)
        await self._close_if_idle(before)

    def ask(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Send the request to the current server; see `Provider`."""
        held = self._current
        held.calls += 1
        return _Counted(held.server.ask(request), lambda: self._ended(held))

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        """Send the batch to the current server; see `Embedder`."""
        held = self._current
        held.calls += 1
        try:
            return await held.server.embed(request)
        finally:
            await self._ended(held)

    async def check(self) -> None:
        """Reach the current server without spending money; see `Provider`."""
        held = self._current
        held.calls += 1
        try:
            await held.server.check()
        finally:
            await self._ended(held)

    async def aclose(self) -> None:
        """Close every server; calls still running raise."""
        retired, self._retired = self._retired, set()
        for held in (self._current, *retired):
            await held.server.aclose()

    @property
    def keys_set_aside(self) -> tuple[KeyAside, ...]:
        """The current server's."""
        return self._current.server.keys_set_aside

    @property
    def usable(self) -> bool:
        """Whether the current server is."""
        return self._current.server.usable

    @property
    def accounts(self) -> tuple[str, ...]:
        """The current server's."""
        return self._current.server.accounts

    async def _ended(self, held: "_Held") -> None:
        held.calls -= 1
        await self._close_if_idle(held)

    async def _close_if_idle(self, held: "_Held") -> None:
        if held.calls == 0 and held in self._retired:
            self._retired.discard(held)
            await held.server.aclose()


class _Held:
    __slots__ = ("calls", "server")

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.calls = 0


class _Counted(AsyncGenerator[ProviderEvent, None]):
    """The server's own iterator, but for what its end brings about; no cost for each event."""

    __slots__ = ("_ended", "_events")

    def __init__(
        self,
        events: AsyncGenerator[ProviderEvent, None],
        ended: Callable[[], Awaitable[None]],
    ) -> None:
        self._events = events
        self._ended: Callable[[], Awaitable[None]] | None = ended

    def __anext__(self) -> Any:
        return self._events.__anext__()

    def asend(self, value: None) -> Any:
        return self._events.asend(value)

    def athrow(self, *error: Any) -> Any:
        return self._events.athrow(*error)

    async def aclose(self) -> None:
        try:
            await self._events.aclose()
        finally:
            ended, self._ended = self._ended, None
            if ended is not None:
                await ended()
