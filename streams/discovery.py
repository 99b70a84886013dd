"""Asking local servers which models they have, where the config names none."""

import asyncio
from collections.abc import Mapping

import httpx
import orjson

from millrace.providers.entry import ModelEntry, ProviderEntry
from millrace.schemas.errors import ConfigurationError
from millrace.schemas.vocabulary import LOCAL_HARDWARE, Capability
from millrace.streams.settings import Settings

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
    return {model: ModelEntry(capabilities=_ASSUMED) for model in names}
