"""Models that an Ollama server does not have yet are downloaded before the first call."""

from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from millrace.schemas.errors import ProviderError
from millrace.streams.discovery import pull_missing_models
from millrace.streams.settings import Settings


class Ollama:
    """A server that has one model and can download another."""

    def __init__(self) -> None:
        self.models = ["here:latest"]
        self.pulled: list[str] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/tags", self._tags)
        app.router.add_post("/api/pull", self._pull)
        return app

    async def _tags(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": name, "size": 1} for name in self.models]})

    async def _pull(self, request: web.Request) -> web.Response:
        model = orjson.loads(await request.read())["model"]
        if model == "nowhere":
            return web.json_response({"error": "pull model manifest: file does not exist"})
        self.pulled.append(model)
        self.models.append(f"{model}:latest")
        steps = [
            {"status": "pulling manifest"},
            {"status": "pulling", "digest": "d", "total": 10, "completed": 5},
            {"status": "success"},
        ]
        return web.Response(body=b"".join(orjson.dumps(step) + b"\n" for step in steps))


def settings_for(url: str, *models: str, pull: bool) -> Settings:
    return Settings.model_validate(
        {
            "clickhouse": {"url": f"chdb://{Path('/nowhere/clickhouse')}"},
            "providers": {
                "ollama": {
                    "wire": "ollama",
                    "base_url": url,
                    "hardware": "gpu",
                    "models": {model: {} for model in models},
                    "pull_missing": pull,
                }
            },
        }
    )


@pytest.mark.parametrize(("pull", "pulled"), [(True, ["new"]), (False, [])])
async def test_what_is_missing_is_pulled_where_the_entry_asks_for_it(
    pull: bool, pulled: list[str]
) -> None:
    """A model that is there is left alone, and nothing is downloaded unasked."""
    ollama = Ollama()
    async with TestServer(ollama.app()) as server:
        await pull_missing_models(
            settings_for(str(server.make_url("")), "here", "new", pull=pull), {}
        )

    assert ollama.pulled == pulled


async def test_a_model_that_cannot_be_had_stops_the_start() -> None:
    """Better a sentence at the start than calls that fail."""
    async with TestServer(Ollama().app()) as server:
        settings = settings_for(str(server.make_url("")), "nowhere", pull=True)

        with pytest.raises(ProviderError, match="model"):
            await pull_missing_models(settings, {})
