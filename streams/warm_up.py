"""Loading the models of local servers before the first call needs them."""

from collections.abc import Iterator, Mapping

import structlog

from millrace.providers.entry import ProviderEntry
from millrace.providers.http_provider import HttpProvider
from millrace.providers.ollama_models import OllamaModels
from millrace.providers.registry import build_provider
from millrace.schemas.errors import ConfigurationError, ProviderError

log = structlog.get_logger(__name__)


async def warm_up(name: str, entry: ProviderEntry, environ: Mapping[str, str]) -> None:
    """Load the entry's models at each of its servers, one after the other.

    What cannot be loaded is logged and left: its calls will say the same, and health checks tell
    whether the server works.
    """
    for server in ollama_servers(name, entry, environ):
        models = OllamaModels(server=server, keep_alive_seconds=entry.keep_alive_seconds)
        try:
            for model in entry.models:
                await _load(name, models, model, address=server.address)
        finally:
            await server.aclose()


def ollama_servers(
    name: str, entry: ProviderEntry, environ: Mapping[str, str]
) -> Iterator[HttpProvider]:
    """A provider of its own for each of the entry's servers, to be closed by whoever takes it.

    Raises:
        ConfigurationError: The entry's servers are none of Ollama's.
    """
    for url in dict.fromkeys((entry.base_url, *(each.url for each in entry.instances))):
        alone = entry.model_copy(
            update={"base_url": url, "instances": (), "api_key_env": entry.api_key_env[:1]}
        )
        server = build_provider(name, alone, environ=environ)
        if not isinstance(server, HttpProvider):
            raise ConfigurationError(f"providers.{name}: an Ollama server is needed")
        yield server


async def _load(name: str, models: OllamaModels, model: str, *, address: str) -> None:
    try:
        took_ms = await models.warm_up(model)
    except ProviderError as error:
        log.warning(
            "model.not_loaded",
            provider=name,
            model=model,
            server=address,
            code=error.code,
            error=error.message,
        )
    else:
        log.info("model.loaded", provider=name, model=model, server=address, load_ms=took_ms)
