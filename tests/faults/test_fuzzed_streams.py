"""Replies broken at random, through each adapter: a whole answer or a provider's error, no more.

MILLRACE_FUZZ_STREAMS says how many (10,000 by `make faults`), MILLRACE_FAULTS_SEED which.
"""

import os
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from harness.broken_streams import BrokenReply, break_reply
from pipeline_under_test import provider_entries

from millrace.providers.entry import ProviderEntry
from millrace.providers.protocol import Completion, ModelRequest, Provider
from millrace.providers.registry import build_provider
from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import SimulatorSettings
from millrace.schemas.errors import ProviderError
from millrace.schemas.message import Message

COUNT = int(os.environ.get("MILLRACE_FUZZ_STREAMS", "1000"))
SEED = int(os.environ.get("MILLRACE_FAULTS_SEED", "1"))
WIRES = ("openai", "anthropic", "gemini", "ollama")
END_MARKERS = {
    "openai": b'"finish_reason":"',
    "anthropic": b"message_stop",
    "gemini": b"finishReason",
    "ollama": b'"done":true',
}
"""What a reply cut off before it cannot have said."""


def request(model: str, *, stream: bool) -> ModelRequest:
    return ModelRequest(
        model=model, messages=(Message(role="user", content="Tell me about mills."),), stream=stream
    )


def entry_of(wire: str, url: str) -> tuple[ProviderEntry, str]:
    """An entry of this wire for a server there, and its model."""
    entry = ProviderEntry.model_validate(provider_entries(url)[wire])
    return entry, next(iter(entry.models))


class Replier:
    """A server that answers everything with the same bytes, or as another one does."""

    def __init__(self) -> None:
        self.body = b""
        self.content_type = ""
        self.url = ""
        self.like: str | None = None
        """Where to get the answer first."""

    async def answer(self, request: web.Request) -> web.Response:
        if self.like is not None:
            url, data = self.like + request.path_qs, await request.read()
            headers = {
                name: value for name, value in request.headers.items() if name.lower() != "host"
            }
            async with (
                aiohttp.ClientSession() as http,
                http.post(url, data=data, headers=headers) as reply,
            ):
                self.body, self.content_type = await reply.read(), reply.headers["Content-Type"]
        return web.Response(body=self.body, headers={"Content-Type": self.content_type})


@pytest.fixture
async def replier() -> AsyncIterator[Replier]:
    """Listening."""
    found = Replier()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def outcome(provider: Provider, model: str, *, stream: bool) -> str:
    """`whole` or `error`; anything else that comes out of an adapter is a fault of ours."""
    completions = 0
    try:
        async for event in provider.ask(request(model, stream=stream)):
            assert not completions, "something came after the completion"
            completions += isinstance(event, Completion)
    except ProviderError:
        return "error"
    assert completions == 1, "it ended without a completion and without an error"
    return "whole"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("wire", WIRES)
async def test_a_broken_reply_is_a_whole_answer_or_an_error(
    wire: str, stream: bool, replier: Replier
) -> None:
    """No other exception, nothing after the end, and no answer where the end never came."""
    draw = random.Random(f"{SEED} {wire} {stream}")
    entry, model = entry_of(wire, replier.url)
    provider = build_provider(wire, entry, environ={})
    async with Simulator(SimulatorSettings(answer_tokens=(6, 6))) as playing:
        replier.like = playing.url
        assert await outcome(provider, model, stream=stream) == "whole"
    replier.like, good = None, replier.body
    errors = 0
    for number in range(COUNT // (2 * len(WIRES))):
        broken = break_reply(good, draw)
        replier.body = broken.body
        try:
            ended = await outcome(provider, model, stream=stream)
        except Exception as error:
            await provider.aclose()
            error.add_note(f"seed {SEED}, {wire}, number {number}: {broken.body!r}")
            raise
        errors += ended == "error"
        if _says_no_end(wire, good, broken):
            assert ended == "error", f"number {number} was cut at {broken.cut_at}: {broken.body!r}"
    await provider.aclose()

    assert errors > 0, "nothing was broken"


def _says_no_end(wire: str, good: bytes, broken: BrokenReply) -> bool:
    return broken.cut_at is not None and broken.cut_at <= good.find(END_MARKERS[wire])
