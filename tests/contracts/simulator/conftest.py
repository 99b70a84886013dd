"""A simulator and clients of it."""

from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from millrace.providers.entry import ModelEntry, ProviderEntry, Timeouts, Wire
from millrace.providers.http_provider import HttpProvider
from millrace.providers.registry import build_provider
from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import SimulatorSettings
from millrace.providers.transport import build_client

Adapter = Callable[..., HttpProvider]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A simulator as it comes, as fast as possible."""
    async with Simulator(SimulatorSettings(answer_tokens=(20, 20))) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A bare HTTP client."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def adapter(simulator: Simulator) -> AsyncIterator[Adapter]:
    """Makes the pipeline's own adapter for a wire, pointed at the simulator.

    It is patient unless told: a busy machine takes its time.
    """
    made: list[HttpProvider] = []

    def make(wire: Wire, **seconds: float) -> HttpProvider:
        timeouts = Timeouts(**{"first_token": 30.0, "idle": 30.0, **seconds})
        entry = ProviderEntry.model_validate(
            {
                "wire": wire,
                "base_url": simulator.base_url(f"the-{wire}", wire),
                "models": {"sim-large": ModelEntry()},
                "timeouts": timeouts,
                "simulated": True,
            }
        )
        provider = build_provider(f"the-{wire}", entry, client=build_client(timeouts), environ={})
        made.append(provider)
        return provider

    yield make
    for provider in made:
        await provider.aclose()
