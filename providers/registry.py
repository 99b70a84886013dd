"""Makes the provider that an entry of the config file describes."""

import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import httpx

from millrace.providers.balance import Balancer, BalanceSettings
from millrace.providers.balanced_provider import BalancedProvider, Target
from millrace.providers.cursor_cli import CursorCliProvider
from millrace.providers.entry import InstanceEntry, ProviderEntry
from millrace.providers.entry import Wire as HttpWireName
from millrace.providers.http_provider import HttpProvider
from millrace.providers.keys import ApiKeys
from millrace.providers.protocol import ModelServer
from millrace.providers.transport import build_client
from millrace.providers.wires.anthropic import AnthropicWire
from millrace.providers.wires.gemini import GeminiWire
from millrace.providers.wires.ollama import OllamaWire
from millrace.providers.wires.openai import OpenAiWire
from millrace.providers.wires.wire import ReplyLimits, Wire

_WIRES: dict[HttpWireName, Callable[[ProviderEntry, ReplyLimits], Wire]] = {
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
    environ: Mapping[str, str],
    client: httpx.AsyncClient | None = None,
    limits: ReplyLimits | None = None,
    now: Callable[[], datetime] = _utc_now,
    monotonic: Callable[[], float] = time.monotonic,
    draw: Callable[[], float] = random.random,
) -> ModelServer:
    """Build the provider of an entry: over HTTP, over several servers or keys, or as a command.

    It makes a client of its own for each server, unless it is given one for all of them, which
    it owns from here on and closes with itself; a command needs none.

    Raises:
        ConfigurationError: The environment holds no usable key under the names that the entry
            gives.
    """
    limits = limits or ReplyLimits()
    if entry.wire == "cursor-cli":
        return CursorCliProvider(
            name=name,
            entry=entry,
            keys=ApiKeys.from_environment(entry.api_key_env, environ),
            environ=environ,
            limits=limits,
        )
    base_urls = () if entry.base_url is None else (InstanceEntry(url=entry.base_url),)
    instances = entry.instances or base_urls
    # Every key is read before any client is made, so that none is left open by a missing key.
    keys = [
        ApiKeys.from_environment(each.api_key_env or entry.api_key_env, environ)
        for each in instances
    ]
    wire = _WIRES[entry.wire]
    servers = []
    for each, own_keys in zip(instances, keys, strict=True):
        at = entry.model_copy(update={"base_url": each.url})
        servers.append(
            HttpProvider(
                name=name,
                entry=at,
                wire=wire(at, limits),
                client=client or build_client(at.timeouts, base_url=str(each.url), environ=environ),
                keys=own_keys,
                now=now,
                limits=limits,
            )
        )
    if len(servers) == 1 and len(keys[0]) <= 1:
        return servers[0]
    targets = [
        Target(server=server, key=key, weight=each.weight / max(1, len(server.keys)))
        for each, server in zip(instances, servers, strict=True)
        for key in (server.keys.all or (None,))
    ]
    settings = BalanceSettings(
        policy=entry.balance, weights={target.name: target.weight for target in targets}
    )
    return BalancedProvider(
        name=name,
        targets=targets,
        balancer=Balancer(
            names=tuple(target.name for target in targets),
            settings=settings,
            now=monotonic,
            draw=draw,
        ),
        now=now,
        monotonic=monotonic,
    )
