"""`millrace demo --live`: a few of the requests to providers that this machine has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from millrace.schemas.request import Request
from millrace.schemas.vocabulary import LOCAL_HARDWARE
from millrace.streams.cli.demo_lines import Line, read_lines
from millrace.streams.usual_providers import usual_providers

REQUESTS = 6
ATTEMPTS = 2
"""How many models are tried in turn for each request."""
OLLAMA_URL = "http://127.0.0.1:11434"
_OLLAMA_SECONDS = 0.5
_OUTPUT_TOKENS = 300
_CENT_PARTS = Decimal("0.000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveProviders:
    """What could really be asked from here."""

    entries: Mapping[str, Mapping[str, Any]]
    """As a config file would have them."""

    @property
    def names(self) -> str:
        """The entries' names, for sentences; none may be there."""
        return ", ".join(self.entries)

    @property
    def paid(self) -> bool:
        """Whether asking them costs money."""
        return any(entry["hardware"] not in LOCAL_HARDWARE for entry in self.entries.values())


async def find_live(environ: Mapping[str, str]) -> LiveProviders:
    """Find keys in the environment and an Ollama on this machine; nothing is asked of a model."""
    known = dict(environ)
    if not known.get("OLLAMA_BASE_URL") and await _ollama_answers():
        known["OLLAMA_BASE_URL"] = OLLAMA_URL
    return LiveProviders(entries=usual_providers(known))


async def _ollama_answers() -> bool:
    """Whether an Ollama with a model runs here."""
    try:
        async with httpx.AsyncClient(timeout=_OLLAMA_SECONDS, trust_env=False) as client:
            reply = await client.get(f"{OLLAMA_URL}/api/tags")
            return reply.is_success and bool(orjson.loads(reply.content)["models"])
    except (httpx.HTTPError, orjson.JSONDecodeError, KeyError, TypeError):
        return False


def live_lines(lines: Sequence[Line], *, budget_usd: Decimal, local: bool) -> Sequence[Line]:
    """Choose some of the plain requests, at most one of a task, and bound what each may cost.

    Together, and with every fallback, they cannot be estimated to cost more than the budget.
    Requests that misbehave on command, name models or providers, are ensembles or ask for vectors
    are left out;
    private ones too, unless a local provider is there.
    """
    chosen: dict[str, Request] = {}
    for line in lines:
        request = line.request
        if request is None or line.meant != "completed" or line.misbehaves or request.inputs:
            continue
        route = request.route
        bound = route.providers or route.models or route.capabilities
        if bound or route.strategy != "auto" or route.hardware != "any":
            continue
        if route.sensitivity == "private" and not local:
            continue
        chosen.setdefault(request.task or "", request)
    picked = list(chosen.values())[:REQUESTS]
    share = (budget_usd / max(1, len(picked) * ATTEMPTS)).quantize(_CENT_PARTS, ROUND_DOWN)
    return read_lines(_bounded(request, share) for request in picked)


def _bounded(request: Request, share: Decimal) -> bytes:
    limit = min(request.parameters.max_output_tokens or _OUTPUT_TOKENS, _OUTPUT_TOKENS)
    return (
        request.model_copy(
            update={
                "stream": True,
                "route": request.route.model_copy(update={"max_cost_usd": share}),
                "parameters": request.parameters.model_copy(update={"max_output_tokens": limit}),
            }
        )
        .model_dump_json(exclude_unset=True)
        .encode()
    )


def hosts(providers: LiveProviders) -> str:
    """Whom requests would go to."""
    return ", ".join(
        f"{name} ({urlsplit(str(entry['base_url'])).hostname})"
        for name, entry in providers.entries.items()
    )
