"""Makes the provider that an entry of the config file describes."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import httpx

from millrace.providers.entry import ProviderEntry
from millrace.providers.entry import Wire as WireName
from millrace.providers.http_provider import HttpProvider
from millrace.providers.keys import ApiKeys
from millrace.providers.wires.anthropic import AnthropicWire
from millrace.providers.wires.gemini import GeminiWire
from millrace.providers.wires.ollama import OllamaWire
from millrace.providers.wires.openai import OpenAiWire
from millrace.providers.wires.wire import ReplyLimits, Wire

_WIRES: dict[WireName, Callable[[ProviderEntry, ReplyLimits], Wire]] = {
    "openai": lambda entry, limits: OpenAiWire(entry, limits=limits),
    "anthropic": lambda entry, limits: AnthropicWire(entry, limits=limits),
    "gemini": lambda entry, limits: GeminiWire(entry, limits=limits),
    "ollama": lambda entry, limits: OllamaWire(entry, limits=limits),
}


def _utc_now() -> datetime:
    return datetime.now(UTC)


def build_provider(
    name: str,
    entry: ProviderEntry,
    *,
    client: httpx.AsyncClient,
    environ: Mapping[str, str],
    limits: ReplyLimits | None = None,
    now: Callable[[], datetime] = _utc_now,
) -> HttpProvider:
    """Build the provider; it owns the client from here on and closes it with itself.

    Raises:
        ConfigurationError: The environment holds no usable key under the names that the entry
            gives.
    """
    return HttpProvider(
        name=name,
        entry=entry,
        wire=_WIRES[entry.wire](entry, limits or ReplyLimits()),
        client=client,
        keys=ApiKeys.from_environment(entry.api_key_env, environ),
        now=now,
    )
