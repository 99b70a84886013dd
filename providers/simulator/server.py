"""Runs the simulator on a port."""

import asyncio
import random
from types import TracebackType
from typing import Self

from aiohttp import web

from millrace.providers.simulator.app import build_app, build_ledger
from millrace.providers.simulator.behaviour import ScriptedBehaviour
from millrace.providers.simulator.clock import Clock, SystemClock
from millrace.providers.simulator.playbook import Playbook
from millrace.providers.simulator.settings import SimulatorSettings
from millrace.schemas.errors import ConfigurationError

_BACKLOG = 4096
"""Connections that may wait to be taken, so that a thousand callers can begin at once."""
_GRACE_SECONDS = 0.05
"""How long calls may go on at the end; aiohttp takes 0 for no limit."""


class Simulator:
    """The simulator within this process: `async with Simulator(settings) as simulator`.

    Port 0 takes a free one. Leaving the block breaks off the calls still running, whose ledger
    lines end as `stopped`.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        settings = settings or SimulatorSettings()
        clock = clock or SystemClock()
        chance = chance or random.Random(settings.seed)  # noqa: S311 -- has to be repeatable
        self._host, self._port = host, port
        self.ledger = build_ledger(settings, clock=clock)
        """The account of all calls."""
        self.playbook = Playbook(settings=settings, chance=chance)
        """Where behaviours are ordered."""
        app = build_app(
            settings, clock=clock, chance=chance, ledger=self.ledger, playbook=self.playbook
        )
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE_SECONDS
        )
        self._url: str | None = None

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end.

        Raises:
            ConfigurationError: It does not run.
        """
        if self._url is None:
            raise ConfigurationError("the simulator does not run: enter it with `async with`")
        return self._url

    def base_url(self, instance: str, wire: str) -> str:
        """The base URL of a provider entry that is played by an instance."""
        tail = "/openai/v1" if wire == "openai" else f"/{wire}"
        return f"{self.url}/{instance}{tail}"

    def script(self, behaviour: ScriptedBehaviour) -> None:
        """Order a behaviour for the next calls that match it."""
        self.playbook.add(behaviour)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=_BACKLOG)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(
                f"the simulator cannot listen on {self._host}:{self._port}:"
                f" {error.strerror or error}; choose another port"
            ) from error
        port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._url = None
        await self._runner.cleanup()


async def serve(settings: SimulatorSettings, host: str = "127.0.0.1", port: int = 8900) -> None:
    """Run the simulator until cancelled.

    Raises:
        ConfigurationError: The port is taken.
    """
    async with Simulator(settings, host=host, port=port):
        await asyncio.get_running_loop().create_future()
