"""The models of an Ollama server are loaded before the first call."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from millrace.providers.entry import ProviderEntry
from millrace.providers.ollama_models import OllamaModels, PullProgress
from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import InstanceSettings, SimulatorSettings
from millrace.schemas.errors import RequestRefusedError
from millrace.streams.warm_up import ollama_servers, warm_up


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Two servers of Ollama's, with a model each."""
    own = InstanceSettings(models=("llama3.2",))
    instances = {"one": own, "two": own}
    async with Simulator(SimulatorSettings(instances=instances)) as running:
        yield running


def entry_of(simulator: Simulator, *models: str, **fields: Any) -> ProviderEntry:
    """An entry with both servers."""
    urls = [{"url": simulator.base_url(name, "ollama")} for name in ("one", "two")]
    return ProviderEntry.model_validate(
        {
            "wire": "ollama",
            "instances": urls,
            "hardware": "gpu",
            "models": {model: {} for model in models},
            "warm_up": True,
            **fields,
        }
    )


async def loaded(entry: ProviderEntry) -> list[tuple[str, ...]]:
    """What each server has in memory."""
    found = []
    for server in ollama_servers("ollama", entry, {}):
        found.append(await OllamaModels(server=server).loaded())
        await server.aclose()
    return found


async def test_every_server_loads_every_model(simulator: Simulator) -> None:
    """How long it took is logged; a second time it takes none."""
    entry = entry_of(simulator, "llama3.2")
    with capture_logs() as first:
        await warm_up("ollama", entry, {})
    with capture_logs() as second:
        await warm_up("ollama", entry, {})

    assert await loaded(entry) == [("llama3.2",), ("llama3.2",)]
    assert [each["load_ms"] for each in (*first, *second)] == [1200.0, 1200.0, 0.0, 0.0]


async def test_a_model_that_cannot_be_loaded_is_told_and_the_others_are_loaded(
    simulator: Simulator,
) -> None:
    """A pipeline starts all the same: its calls say what is wrong."""
    entry = entry_of(simulator, "nowhere", "llama3.2")
    with capture_logs() as logged:
        await warm_up("ollama", entry, {})

    events = [(each["event"], each["model"]) for each in logged]
    assert events == 2 * [("model.not_loaded", "nowhere"), ("model.loaded", "llama3.2")]
    assert {each.get("code") for each in logged} == {"model_not_found", None}


async def test_a_model_that_is_not_kept_leaves_memory(simulator: Simulator) -> None:
    """`keep_alive_seconds` goes along."""
    await warm_up("ollama", entry_of(simulator, "llama3.2"), {})
    entry = entry_of(simulator, "llama3.2", keep_alive_seconds=0)
    await warm_up("ollama", entry, {})

    assert await loaded(entry) == [(), ()]


async def test_a_download_is_there_afterwards(simulator: Simulator) -> None:
    """With its progress on the way; what does not exist is not found."""
    server, other = ollama_servers("ollama", entry_of(simulator), {})
    models, told = OllamaModels(server=server), list[PullProgress]()

    assert await models.pull_missing(["qwen3"], on_progress=told.append) == ("qwen3",)
    assert "qwen3" in [each.name for each in await models.list()]
    assert await OllamaModels(server=other).missing(["qwen3"]) == ("qwen3",)
    assert [each.completed_bytes for each in told if each.digest][-1] == told[1].total_bytes
    with pytest.raises(RequestRefusedError, match="no model 'missing-1'"):
        await models.pull_missing(["missing-1"], on_progress=told.append)
    for each in (server, other):
        await each.aclose()
