"""A provider that is changed while calls are under way."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from millrace.providers.protocol import (
    Completion,
    EmbeddingReply,
    EmbeddingRequest,
    ModelRequest,
    ProviderEvent,
    TextDelta,
)
from millrace.providers.replaceable import ReplaceableProvider
from millrace.schemas.errors import ProviderUnavailableError
from millrace.schemas.provider_health import KeyAside
from millrace.schemas.usage import Usage

REQUEST = ModelRequest(model="m", messages=())


class Server:
    """Answers with its name, once it may."""

    keys_set_aside: tuple[KeyAside, ...] = ()
    usable = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.go_on = asyncio.Event()
        self.closed = 0

    async def ask(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        del request
        yield TextDelta(self.name)
        await self.go_on.wait()
        if self.closed:
            raise ProviderUnavailableError("closed under a call")
        yield Completion(text=self.name)

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        del request
        await self.go_on.wait()
        return EmbeddingReply(vectors=(), usage=Usage(), model=self.name)

    async def check(self) -> None:
        await self.go_on.wait()

    async def aclose(self) -> None:
        self.closed += 1


async def answer(provider: ReplaceableProvider) -> str:
    """Ask, and read to the end."""
    async with aclosing(provider.ask(REQUEST)) as events:
        found = [event async for event in events]
    last = found[-1]
    assert isinstance(last, Completion)
    return last.text


async def test_a_call_ends_with_the_server_that_it_began_with() -> None:
    """The replaced one is closed after its last call, and not before; once."""
    old, new = Server("old"), Server("new")
    provider = ReplaceableProvider(old)
    calls = [asyncio.create_task(answer(provider)) for _ in range(2)]
    vectors = asyncio.create_task(provider.embed(EmbeddingRequest(model="m", inputs=("x",))))
    checking = asyncio.create_task(provider.check())
    await asyncio.sleep(0)
    await provider.replace(new)
    new.go_on.set()
    assert await answer(provider) == "new"
    assert old.closed == 0

    old.go_on.set()

    assert await asyncio.gather(*calls) == ["old", "old"]
    assert (await vectors).model == "old"
    await checking
    assert (old.closed, new.closed) == (1, 0)


async def test_an_idle_server_is_closed_when_it_is_replaced() -> None:
    """And the end closes the current one, and those that still have calls."""
    first, second, third = Server("first"), Server("second"), Server("third")
    provider = ReplaceableProvider(first)
    await provider.replace(second)
    call = asyncio.create_task(answer(provider))
    await asyncio.sleep(0)
    await provider.replace(third)
    await provider.aclose()
    second.go_on.set()

    with pytest.raises(ProviderUnavailableError):
        await call
    assert (first.closed, second.closed, third.closed) == (1, 1, 1)


async def test_a_call_that_is_broken_off_lets_its_server_go() -> None:
    """Cancelling the task that reads is enough."""
    old = Server("old")
    provider = ReplaceableProvider(old)
    call = asyncio.create_task(answer(provider))
    await asyncio.sleep(0)
    await provider.replace(Server("new"))
    call.cancel()
    await asyncio.wait((call,))

    assert (call.cancelled(), old.closed) == (True, 1)
