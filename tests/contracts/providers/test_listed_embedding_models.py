"""Local servers whose models are listed when the pipeline starts, those that embed among them."""

import pytest

from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import InstanceSettings, SimulatorSettings
from millrace.streams.discovery import with_listed_models
from millrace.streams.settings import Settings


@pytest.mark.parametrize("wire", ["ollama", "openai"])
async def test_a_listed_model_either_answers_or_embeds(wire: str) -> None:
    """By its name, as a local server does not say."""
    names = ("llama3.2:3b", "nomic-embed-text:latest", "BAAI/bge-m3")
    local = SimulatorSettings(instances={"local": InstanceSettings(models=names)})
    async with Simulator(local) as simulator:
        settings = Settings.model_validate(
            {
                "clickhouse": {"url": "chdb:///nowhere"},
                "providers": {
                    "local": {
                        "wire": wire,
                        "base_url": simulator.base_url("local", wire),
                        "hardware": "gpu",
                    }
                },
            }
        )
        models = (await with_listed_models(settings, {})).providers["local"].models

    embed = {name for name, each in models.items() if each.capabilities == ("embeddings",)}
    assert set(models) == set(names)
    assert embed == set(names[1:])
    assert "tools" in models["llama3.2:3b"].capabilities
    assert models["nomic-embed-text:latest"].dimensions == 768
