"""The simulator's own endpoints under `/_sim`: the script, the ledger, its totals."""

from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from millrace.providers.simulator.behaviour import ScriptedBehaviour
from millrace.providers.simulator.ledger import Ledger, LedgerFilter
from millrace.providers.simulator.playbook import Playbook
from millrace.schemas.record import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Lets other processes direct the simulator and read its ledger."""

    ledger: Ledger
    playbook: Playbook

    def routes(self) -> list[web.RouteDef]:
        """The endpoints."""
        return [
            web.get("/_sim/health", self.health),
            web.post("/_sim/script", self.add_to_script),
            web.get("/_sim/script", self.show_script),
            web.delete("/_sim/script", self.clear_script),
            web.get("/_sim/ledger", self.show_ledger),
            web.delete("/_sim/ledger", self.clear_ledger),
            web.get("/_sim/totals", self.show_totals),
        ]

    async def health(self, _request: web.Request) -> web.Response:
        """Say that the simulator is up, and that it is one."""
        return _json({"status": "ok", "simulated": True})

    async def add_to_script(self, request: web.Request) -> web.Response:
        """Queue a behaviour for the next calls that match."""
        try:
            scripted = ScriptedBehaviour.model_validate_json(await request.read())
        except ValidationError as error:
            return _json({"error": describe(error)}, status=400)
        self.playbook.add(scripted)
        return _json({"queued": len(self.playbook.script())}, status=201)

    async def show_script(self, _request: web.Request) -> web.Response:
        """Show what is queued still."""
        entries = [
            entry.model_dump(mode="json", exclude_defaults=True) for entry in self.playbook.script()
        ]
        return _json({"script": entries})

    async def clear_script(self, _request: web.Request) -> web.Response:
        """Empty the queue, and let directives with `times` count anew."""
        self.playbook.clear()
        return _json({"queued": 0})

    async def show_ledger(self, request: web.Request) -> web.Response:
        """Show the lines that fit the query."""
        try:
            wanted = LedgerFilter.model_validate(dict(request.query))
        except ValidationError as error:
            return _json({"error": describe(error)}, status=400)
        lines = list(self.ledger.lines(wanted))
        return _json({"count": len(lines), "lines": lines})

    async def clear_ledger(self, _request: web.Request) -> web.Response:
        """Begin an empty ledger."""
        self.ledger.clear()
        return _json({"count": 0})

    async def show_totals(self, request: web.Request) -> web.Response:
        """Show sums over the lines that fit the query, whole and by instance."""
        try:
            wanted = LedgerFilter.model_validate(dict(request.query))
        except ValidationError as error:
            return _json({"error": describe(error)}, status=400)
        by_instance = self.ledger.by_instance(wanted)
        return _json({"totals": self.ledger.totals(wanted), "by_instance": by_instance})


def _json(body: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
