"""What the `ollama` wire has besides chat: downloading, loading and listing loaded models."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web

from millrace.providers.simulator.exchange import SIMULATED_HEADER
from millrace.providers.simulator.settings import SimulatorSettings
from millrace.providers.simulator.wire import Lenient, read_body
from millrace.schemas.errors import RequestRefusedError

_BYTES: Final = 4_700_000_000
_PIECES: Final = 4
_ABSENT: Final = "pull model manifest: file does not exist"
_LOAD_NANOSECONDS: Final = 1_200_000_000
_JSON: Final = "application/json; charset=utf-8"
_HEADERS: Final = {SIMULATED_HEADER: "1"}


class _Pull(Lenient):
    model: str
    stream: bool = True


class _Generate(Lenient):
    model: str
    prompt: str = ""
    keep_alive: int | float | str | None = None


@dataclass(slots=True)
class OllamaStore:
    """The models of each instance: those that it was set to have, and those downloaded since.

    Any name can be downloaded, but for those that begin with `missing`. Nothing is in the ledger,
    for nothing of this costs tokens.
    """

    settings: SimulatorSettings
    pulled: dict[str, list[str]] = field(default_factory=dict)
    loaded: dict[str, list[str]] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [
            web.post("/{instance}/ollama/api/pull", self._pull),
            web.post("/{instance}/ollama/api/generate", self._generate),
            web.get("/{instance}/ollama/api/ps", self._running),
        ]

    def models(self, instance: str) -> tuple[str, ...]:
        """What an instance has."""
        own = self.settings.of(instance).models or self.settings.models
        return (*own, *self.pulled.get(instance, ()))

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        try:
            body = read_body(_Pull, await request.read(), known=frozenset({"insecure"}))
        except RequestRefusedError as error:
            return _refused(400, error.message)
        absent = body.model.startswith("missing")
        instance = request.match_info["instance"]
        if not body.stream:
            if absent:
                return _refused(500, _ABSENT)
            self._add(instance, body.model)
            return web.json_response({"status": "success"}, headers=_HEADERS)
        reply = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", **_HEADERS})
        await reply.prepare(request)
        await reply.write(_line({"status": "pulling manifest"}))
        if absent:
            # The status is out already by then.
            await reply.write(_line({"error": _ABSENT}))
            await reply.write_eof()
            return reply
        for piece in range(_PIECES + 1):
            step = {
                "status": "pulling 0123456789ab",
                "digest": "sha256:0123456789ab",
                "total": _BYTES,
                "completed": _BYTES * piece // _PIECES,
            }
            await reply.write(_line(step))
            await asyncio.sleep(0)
        self._add(instance, body.model)
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            await reply.write(_line({"status": status}))
        await reply.write_eof()
        return reply

    async def _generate(self, request: web.Request) -> web.Response:
        """Load a model, or take it out of memory; text is asked for by /api/chat here."""
        known = frozenset({"stream", "options"})
        try:
            body = read_body(_Generate, await request.read(), known=known)
        except RequestRefusedError as error:
            return _refused(400, error.message)
        if body.prompt:
            return _refused(400, "only loading is simulated: ask /api/chat for text")
        instance = request.match_info["instance"]
        # As in chat, an instance without a list of its own has whatever it is asked for.
        own = self.settings.of(instance).models
        if own and body.model not in self.models(instance):
            return _refused(404, f"model {body.model!r} not found")
        loaded = self.loaded.setdefault(instance, [])
        unload = body.keep_alive in (0, "0")
        fresh = body.model not in loaded and not unload
        if fresh:
            loaded.append(body.model)
        elif unload and body.model in loaded:
            loaded.remove(body.model)
        answer = {
            "model": body.model,
            "created_at": "2025-01-01T00:00:00Z",
            "response": "",
            "done": True,
            "done_reason": "unload" if unload else "load",
            "load_duration": _LOAD_NANOSECONDS if fresh else 0,
        }
        return web.json_response(answer, headers=_HEADERS)

    async def _running(self, request: web.Request) -> web.Response:
        loaded = self.loaded.get(request.match_info["instance"], [])
        models = [
            {
                "name": name,
                "model": name,
                "size": _BYTES,
                "size_vram": _BYTES,
                "expires_at": "2100-01-01T00:00:00Z",
            }
            for name in loaded
        ]
        return web.json_response({"models": models}, headers=_HEADERS)

    def _add(self, instance: str, model: str) -> None:
        if model not in self.models(instance):
            self.pulled.setdefault(instance, []).append(model)


def _line(step: dict[str, Any]) -> bytes:
    return orjson.dumps(step) + b"\n"


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status, headers=_HEADERS)
