"""The models of local servers: listed where the config names none, pulled where it asks for it."""

import asyncio
from collections.abc import Mapping

import httpx
import orjson
import structlog

from millrace.providers.embedding_models import embedding_facts
from millrace.providers.entry import ModelEntry, ProviderEntry
from millrace.providers.ollama_models import OllamaModels, PullProgress
from millrace.schemas.errors import ConfigurationError
from millrace.schemas.vocabulary import LOCAL_HARDWARE, Capability
from millrace.streams.settings import Settings
from millrace.streams.warm_up import ollama_servers

log = structlog.get_logger(__name__)

_SECONDS = 5.0
_ASSUMED: tuple[Capability, ...] = ("json", "json_schema", "tools")


async def with_listed_models(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Fill in the models of local entries that name none.

    Raises:
        ConfigurationError: An entry has no models, and its server lists none or does not answer.
    """
    bare = {name: each for name, each in settings.enabled_providers.items() if not each.models}
    if not bare:
        return settings
    async with httpx.AsyncClient(timeout=_SECONDS, trust_env=False) as client:
        found = await asyncio.gather(
            *(_listed(client, name, entry, environ) for name, entry in bare.items())
        )
    filled = {
        name: entry.model_copy(update={"models": models})
        for (name, entry), models in zip(bare.items(), found, strict=True)
    }
    return settings.model_copy(update={"providers": {**settings.providers, **filled}})


async def pull_missing_models(settings: Settings, environ: Mapping[str, str]) -> None:
    """Download configured models to the Ollama servers of entries that ask for it.

    Raises:
        ProviderError: A server cannot be reached, or a model cannot be had.
    """
    for name, entry in settings.enabled_providers.items():
        if not entry.pull_missing:
            continue
        for server in ollama_servers(name, entry, environ):
            try:
                pulled = await OllamaModels(server=server).pull_missing(
                    entry.models, on_progress=_Progress(name)
                )
            finally:
                await server.aclose()
            if pulled:
                log.info("models.pulled", provider=name, models=pulled)


class _Progress:
    """Logs a download at every tenth part of each file."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._shown: dict[tuple[str, str | None], int] = {}

    def __call__(self, step: PullProgress) -> None:
        tenths = 10 * (step.completed_bytes or 0) // (step.total_bytes or 1)
        file = (step.model, step.digest or step.status)
        if self._shown.get(file) != tenths:
            self._shown[file] = tenths
            log.info(
                "model.pulling",
                provider=self._provider,
                model=step.model,
                status=step.status,
                percent=10 * tenths,
            )


async def _listed(
    client: httpx.AsyncClient, name: str, entry: ProviderEntry, environ: Mapping[str, str]
) -> dict[str, ModelEntry]:
    if entry.hardware not in LOCAL_HARDWARE:
        raise ConfigurationError(
            f"providers.{name}.models: name the models to use; only local servers are asked"
        )
    base = str(entry.base_url).rstrip("/")
    path, items, key = (
        ("/api/tags", "models", "name") if entry.wire == "ollama" else ("/models", "data", "id")
    )
    keys = [environ[variable] for variable in entry.api_key_env if environ.get(variable)]
    headers = {"authorization": f"Bearer {keys[0]}"} if keys else {}
    try:
        response = await client.get(base + path, headers=headers)
        response.raise_for_status()
        names = [str(item[key]) for item in orjson.loads(response.content)[items]]
    except (httpx.HTTPError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"providers.{name}: {base} does not list its models ({type(error).__name__}); start "
            f"it, name its models, or set providers.{name}.enabled = false"
        ) from error
    if not names:
        raise ConfigurationError(f"providers.{name}: {base} has no models yet; pull one first")
    return {
        name: ModelEntry.model_validate(embedding_facts(name) or {"capabilities": _ASSUMED})
        for name in names
    }
