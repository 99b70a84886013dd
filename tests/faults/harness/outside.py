"""What lies around the pipeline: a Kafka with a way in for each role, the simulator, a store."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import trustme
from kafka_process import KafkaProcess, free_port

ROLES = ("router", "validator", "caller", "sink")
_BRIDGE = Path(__file__).parents[2] / "contracts" / "sinks" / "clickhouse_bridge.py"
_START_SECONDS = 60


class WaysIn:
    """Ports of a broker: one of its own for each role, where a proxy may stand, and a plain one.

    A broker tells its clients where to find it, so each way needs a listener that names the proxy.
    """

    def __init__(self) -> None:
        self.plain = free_port()
        self.behind = {role: free_port() for role in ROLES}

    def properties(self, file: Path, proxies: dict[str, int]) -> Path:
        """Write the broker's listeners, and bounds that let members be missed soon."""
        names = {role: role.upper() for role in ROLES}
        listeners = [f"PLAINTEXT://127.0.0.1:{self.plain}"]
        advertised = list(listeners)
        for role, name in names.items():
            listeners.append(f"{name}://127.0.0.1:{self.behind[role]}")
            advertised.append(f"{name}://127.0.0.1:{proxies[role]}")
        protocols = ["PLAINTEXT", "CONTROLLER", *names.values()]
        file.write_text(
            "\n".join(
                (
                    f"listeners={','.join(listeners)},CONTROLLER://{{controller}}",
                    f"advertised.listeners={','.join(advertised)}",
                    "listener.security.protocol.map="
                    + ",".join(f"{each}:PLAINTEXT" for each in protocols),
                    "inter.broker.listener.name=PLAINTEXT",
                    "group.min.session.timeout.ms=1000",
                )
            )
            + "\n"
        )
        return file

    def kafka(self, folder: Path, proxies: dict[str, int]) -> KafkaProcess:
        """The broker, not started."""
        properties = self.properties(folder / "ways.properties", proxies)
        return KafkaProcess(data=folder / "kafka", port=self.plain, properties=properties)


class ProgramEndedError(Exception):
    """A program of the harness ended before it was ready."""


class Program:
    """A process of the harness that prints one line when it is ready."""

    def __init__(self, *command: str, folder: Path | None = None) -> None:
        self._command = command
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """Return what it printed."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=self._folder,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise ProgramEndedError(f"{' '.join(self._command)} ended before it was ready")
        return line.decode()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; harmless when it does not run."""
        if self._process is None:
            return
        self.send(signal.SIGCONT)
        self.send(number)
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()
        self._process = None


class Upstream:
    """The simulator as a process of its own: it outlives every fault and keeps its own ledger."""

    def __init__(self, *, port: int, seed: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        program = Path(sys.executable).with_name("millrace")
        options = ("--port", str(port), "--seed", str(seed), "--answer-tokens", "12", "--json")
        self._program = Program(str(program), "simulate", *options)
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Return once it listens."""
        await self._program.start()
        self._http = aiohttp.ClientSession()

    async def stop(self) -> None:
        """End it."""
        if self._http is not None:
            await self._http.close()
        await self._program.end()

    async def lines(self) -> list[dict[str, Any]]:
        """Every call that it has heard of."""
        found: list[dict[str, Any]] = (await self._get("/_sim/ledger"))["lines"]
        return found

    async def open_calls(self) -> int:
        """How many calls are under way, those that it lets hang included."""
        lines = await self.lines()
        return sum(line["ended_at"] is None for line in lines)

    async def misbehave(self, times: int, **behaviour: Any) -> None:
        """Let the next so many calls meet with this."""
        assert self._http is not None
        body = {"times": times, **behaviour}
        async with self._http.post(f"{self.url}/_sim/script", json=body) as answer:
            answer.raise_for_status()

    async def behave(self) -> None:
        """Forget what is queued still."""
        assert self._http is not None
        async with self._http.delete(f"{self.url}/_sim/script") as answer:
            answer.raise_for_status()

    async def _get(self, path: str) -> Any:
        assert self._http is not None
        async with self._http.get(self.url + path) as answer:
            return json.loads(await answer.read())


class Store:
    """ClickHouse's HTTP interface with the real engine behind it, in a process of its own."""

    def __init__(self, folder: Path, *, password: str) -> None:
        certificate = folder / "store.pem"
        pem = trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        pem.write_to_path(certificate)
        self.folder = folder / "engine"
        self._program = Program(
            sys.executable, str(_BRIDGE), str(self.folder), password, str(certificate)
        )
        self.port = 0

    async def start(self) -> None:
        """Return once it listens."""
        self.port = int((await self._program.start()).split()[0])

    async def stop(self) -> None:
        """End it."""
        await self._program.end()

    def freeze(self) -> None:
        """SIGSTOP it: connections are taken and nothing is answered."""
        self._program.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT it."""
        self._program.send(signal.SIGCONT)

    async def heal(self) -> None:
        """Let it answer every insert."""
        self.thaw()
        await self._fault("full", 0)
        await self._fault("lose_answers", 0)

    async def fill_disk(self) -> None:
        """Let it refuse inserts as a server does that has no space left."""
        await self._fault("full", 1_000_000)

    async def free_disk(self) -> None:
        """Let it take them again."""
        await self._fault("full", 0)

    async def lose_answers(self, inserts: int) -> None:
        """Store the next so many inserts and break the connection off before the answer."""
        await self._fault("lose_answers", inserts)

    async def _fault(self, name: str, inserts: int) -> None:
        url = f"http://127.0.0.1:{self.port}/faults?{name}={inserts}"
        async with aiohttp.ClientSession() as http, http.post(url) as answer:
            answer.raise_for_status()
