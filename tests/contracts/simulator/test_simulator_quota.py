"""The simulator's rate limits, and what adapters make of its headers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from millrace.providers.entry import ProviderEntry
from millrace.providers.protocol import ModelRequest, ModelServer
from millrace.providers.rate_limit import RateLimiter, RateLimits
from millrace.providers.registry import build_provider
from millrace.providers.simulator.quota import QuotaSettings
from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import InstanceSettings, SimulatorSettings
from millrace.schemas.errors import RateLimitedError
from millrace.schemas.message import Message

QUOTA = QuotaSettings(requests_per_minute=3, tokens_per_minute=6000)
TEXT = (Message(role="user", content="Why?"),)


class Clock:
    """Time that stands still unless told, for the simulator and its client alike."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> float:
        return self.seconds

    def elapsed(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def moment(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Clock:
    """The time of both sides."""
    return Clock()


@pytest.fixture
async def limited(clock: Clock) -> AsyncIterator[Simulator]:
    """A simulator whose instance `a` takes three requests a minute of each key."""
    settings = SimulatorSettings(
        answer_tokens=(12, 12), instances={"a": InstanceSettings(quota=QUOTA)}
    )
    async with Simulator(settings, clock=clock) as simulator:
        yield simulator


def provider_of(
    simulator: Simulator, clock: Clock, wire: str, keys: tuple[str, ...] = ("KEY_A",)
) -> ModelServer:
    """An adapter for instance `a` with these keys."""
    entry = ProviderEntry.model_validate(
        {
            "wire": wire,
            "base_url": simulator.base_url("a", wire),
            "api_key_env": keys,
            "models": {"m": {}, "n": {}},
        }
    )
    return build_provider("a", entry, environ={key: f"sk-{key}" for key in keys}, now=clock.moment)


async def ask(provider: ModelServer, limiter: RateLimiter, model: str = "m") -> float | None:
    """Make a call as the caller does; the refusal's wait, if it was refused."""
    quota = limiter.reserve(model, 100)
    try:
        async for _ in provider.ask(ModelRequest(model=model, messages=TEXT, quota=quota)):
            pass
    except RateLimitedError as error:
        limiter.refused(quota, error.retry_after)
        return error.retry_after
    limiter.settle(quota, 100)
    return None


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_headers_hold_calls_back_before_they_are_refused(
    limited: Simulator, clock: Clock, wire: str
) -> None:
    """The third of three leaves none: the fourth waits for the 20 s in which one comes."""
    provider = provider_of(limited, clock, wire)
    limiter = RateLimiter(limits=RateLimits(), now=clock.elapsed, accounts=provider.accounts)
    for _ in range(3):
        assert limiter.delay("m", 100) == 0
        assert await ask(provider, limiter) is None

    assert limiter.delay("m", 100) == pytest.approx(20, abs=0.1)
    assert limiter.delay("n", 100) == 0
    clock.seconds += 20.1
    assert limiter.delay("m", 100) == 0
    assert await ask(provider, limiter) is None
    await provider.aclose()
    assert {line.status for line in limited.ledger.lines()} == {200}


@pytest.mark.parametrize("wire", ["gemini", "ollama"])
async def test_without_headers_a_refusal_says_how_long(
    limited: Simulator, clock: Clock, wire: str
) -> None:
    """A refused call costs nothing, and its model rests."""
    provider = provider_of(limited, clock, wire)
    limiter = RateLimiter(limits=RateLimits(), now=clock.elapsed, accounts=provider.accounts)
    answers = [await ask(provider, limiter) for _ in range(4)]

    assert answers == [None, None, None, pytest.approx(20, abs=0.1)]
    assert limiter.delay("m", 100) == pytest.approx(20, abs=0.1)
    await provider.aclose()
    refused = [line for line in limited.ledger.lines() if line.status == 429]
    assert [(line.input_tokens, line.generated_tokens) for line in refused] == [(0, 0)]


async def test_calls_go_to_the_key_that_has_room(limited: Simulator, clock: Clock) -> None:
    """Six calls of two keys with three each; then all wait."""
    provider = provider_of(limited, clock, "openai", ("KEY_A", "KEY_B"))
    limiter = RateLimiter(limits=RateLimits(), now=clock.elapsed, accounts=provider.accounts)
    other = RateLimiter(limits=RateLimits(), now=clock.elapsed, accounts=provider.accounts)
    # Another process has used two of the first key's; turns alone would ask it once too often.
    alone = provider_of(limited, clock, "openai")
    for _ in range(2):
        quota = other.reserve("m", 100)
        async for _ in alone.ask(ModelRequest(model="m", messages=TEXT, quota=quota)):
            pass
    await alone.aclose()

    for _ in range(4):
        assert limiter.delay("m", 100) == 0
        assert await ask(provider, limiter) is None

    assert limiter.delay("m", 100) > 0
    await provider.aclose()


async def test_tokens_are_refused_too(clock: Clock) -> None:
    """A call larger than all that a minute brings is let through when nothing is taken."""
    quota = QuotaSettings(tokens_per_minute=30)
    settings = SimulatorSettings(
        answer_tokens=(60, 60), instances={"a": InstanceSettings(quota=quota)}
    )
    async with Simulator(settings, clock=clock) as simulator:
        provider = provider_of(simulator, clock, "ollama")
        limiter = RateLimiter(limits=RateLimits(), now=clock.elapsed, accounts=provider.accounts)

        assert await ask(provider, limiter) is None
        wait = await ask(provider, limiter)
        assert wait is not None
        assert wait > 60
        await provider.aclose()
