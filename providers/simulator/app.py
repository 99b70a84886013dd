"""The simulator as an aiohttp application: which path speaks which wire."""

import random
from collections.abc import Callable, Sequence

from aiohttp import web

from millrace.providers.simulator.anthropic_wire import AnthropicWire
from millrace.providers.simulator.call import Incoming
from millrace.providers.simulator.clock import Clock, SystemClock
from millrace.providers.simulator.composer import Composer
from millrace.providers.simulator.control import Control
from millrace.providers.simulator.embedding_wires import (
    GeminiEmbeddings,
    OllamaEmbeddings,
    OpenAIEmbeddings,
)
from millrace.providers.simulator.exchange import SIMULATED_HEADER
from millrace.providers.simulator.gemini_wire import GeminiWire
from millrace.providers.simulator.ledger import Ledger
from millrace.providers.simulator.ollama_models import OllamaStore
from millrace.providers.simulator.ollama_wire import OllamaWire
from millrace.providers.simulator.openai_wire import OpenAIWire
from millrace.providers.simulator.playbook import Playbook
from millrace.providers.simulator.prompt_cache import PromptCache
from millrace.providers.simulator.quota import Quota
from millrace.providers.simulator.settings import SimulatorSettings
from millrace.providers.simulator.simulation import Simulation
from millrace.providers.simulator.wire import Wire
from millrace.schemas.errors import ConfigurationError

_GEMINI = "/{instance}/gemini/{version:v1(?:alpha|beta)?}"
OLLAMA_VERSION = "0.12.0"
"""The version that the ollama wire says it has."""


def build_app(
    settings: SimulatorSettings,
    *,
    clock: Clock | None = None,
    chance: random.Random | None = None,
    ledger: Ledger | None = None,
    playbook: Playbook | None = None,
) -> web.Application:
    """Wire the simulator up.

    Whatever is not given is made from the settings. Run it with `handler_cancellation=True`,
    as `Simulator` and `serve` do: else a call that hangs goes on after its client has left.
    """
    clock = clock or SystemClock()
    chance = chance or random.Random(settings.seed)  # noqa: S311 -- has to be repeatable
    ledger = ledger or build_ledger(settings, clock=clock)
    playbook = playbook or Playbook(settings=settings, chance=chance)
    simulation = Simulation(
        settings=settings,
        composer=Composer(
            seed=settings.seed, answer_tokens=settings.answer_tokens, dissent=settings.dissent
        ),
        playbook=playbook,
        ledger=ledger,
        clock=clock,
        chance=chance,
        quota=Quota(elapsed=clock.elapsed),
        cache=PromptCache() if settings.prompt_cache else None,
    )
    openai, anthropic, gemini, ollama = OpenAIWire(), AnthropicWire(), GeminiWire(), OllamaWire()
    openai_vectors, gemini_vectors = OpenAIEmbeddings(), GeminiEmbeddings()
    store = OllamaStore(settings)
    app = web.Application(client_max_size=settings.max_request_bytes)
    app.add_routes(
        [
            _asks("/{instance}/openai/v1/chat/completions", openai, simulation),
            _asks("/{instance}/anthropic/v1/messages", anthropic, simulation),
            _asks("/{instance}/openai/v1/embeddings", openai_vectors, simulation),
            _asks(f"{_GEMINI}/models/{{model}}:batchEmbedContents", gemini_vectors, simulation),
            _asks("/{instance}/ollama/api/embed", OllamaEmbeddings(), simulation),
            _asks(f"{_GEMINI}/models/{{model}}:{{verb}}", gemini, simulation),
            _asks("/{instance}/ollama/api/chat", ollama, simulation),
            _lists("/{instance}/openai/v1/models", openai, settings),
            _lists("/{instance}/anthropic/v1/models", anthropic, settings),
            _lists(f"{_GEMINI}/models", gemini, settings),
            _lists("/{instance}/ollama/api/tags", ollama, settings, store.models),
            web.get("/{instance}/ollama/api/version", _ollama_version),
            *store.routes(),
            *Control(ledger=ledger, playbook=playbook).routes(),
        ]
    )

    async def shut(_app: web.Application) -> None:
        ledger.shut()

    async def stop(_app: web.Application) -> None:
        ledger.stop()

    app.on_shutdown.append(stop)
    app.on_cleanup.append(shut)
    return app


def build_ledger(settings: SimulatorSettings, *, clock: Clock) -> Ledger:
    """Make the ledger that the settings describe.

    Raises:
        ConfigurationError: Its file cannot be written.
    """
    try:
        return Ledger(
            now=clock.now, memory_lines=settings.ledger_memory_lines, path=settings.ledger_path
        )
    except OSError as error:
        raise ConfigurationError(
            f"the simulator's ledger cannot be written to {str(settings.ledger_path)!r}:"
            f" {error.strerror or error}; give another file"
        ) from error


def _asks(path: str, wire: Wire, simulation: Simulation) -> web.RouteDef:
    async def answer(request: web.Request) -> web.StreamResponse:
        found = request.match_info
        incoming = Incoming(
            instance=found["instance"],
            body=await request.read(),
            headers=request.headers,
            query=request.query_string,
            model=found.get("model", ""),
            verb=found.get("verb", ""),
        )
        return await simulation.answer(request, wire, incoming)

    return web.post(path, answer)


def _lists(
    path: str,
    wire: Wire,
    settings: SimulatorSettings,
    of_instance: Callable[[str], Sequence[str]] | None = None,
) -> web.RouteDef:
    async def models(request: web.Request) -> web.Response:
        instance = request.match_info["instance"]
        names = settings.of(instance).models or settings.models
        if of_instance is not None:
            names = tuple(of_instance(instance))
        return web.Response(
            body=wire.models(names),
            headers={"Content-Type": wire.plain_type, SIMULATED_HEADER: "1"},
        )

    return web.get(path, models)


async def _ollama_version(_request: web.Request) -> web.Response:
    return web.json_response({"version": OLLAMA_VERSION}, headers={SIMULATED_HEADER: "1"})
