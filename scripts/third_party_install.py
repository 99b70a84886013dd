"""Where model servers of other makers are installed, and how. Standard library only."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LOCKS = Path(__file__).resolve().parent / "third_party"
COMPLETE = ".complete"
OLDEST_NODE = (20, 15)


class ThirdPartyError(Exception):
    """Something the user has to see to; the message says what."""


def third_party_home() -> Path:
    """The folder that holds all of them."""
    if named := os.environ.get("MILLRACE_THIRD_PARTY_HOME"):
        return Path(named).expanduser().absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache.absolute() / "millrace" / "third-party"


class Server(ABC):
    """A server of another maker: what pins it, how it is installed, what runs it."""

    name: str
    locks: tuple[str, ...]
    """The files whose content says what is installed."""

    @property
    def folder(self) -> Path:
        """Where this very version is, or will be. Another lock or Python has another folder."""
        digest = hashlib.sha256(f"{sys.implementation.cache_tag} {sys.base_prefix}".encode())
        for name in self.locks:
            digest.update((LOCKS / name).read_bytes())
        return third_party_home() / f"{self.name}-{digest.hexdigest()[:12]}"

    @abstractmethod
    def install(self, folder: Path) -> None:
        """Fill the folder."""

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """What runs it."""


class LiteLlm(Server):
    """The LiteLLM proxy, in a virtual environment. Only wheels: no code runs at installation."""

    name = "litellm"
    locks = ("litellm.lock",)

    def install(self, folder: Path) -> None:
        """Make the environment."""
        _run(sys.executable, "-m", "venv", str(folder))
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        pip += ["--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
        _run(*pip, "-r", str(LOCKS / "litellm.lock"))

    def command(self) -> Sequence[str | Path]:
        """Its own command line."""
        return [self.folder / "bin" / "litellm"]


class AiMock(Server):
    """CopilotKit's aimock, which has no dependencies."""

    name = "aimock"
    locks = ("package.json", "package-lock.json")

    def install(self, folder: Path) -> None:
        """Let npm check and unpack it."""
        _node()
        npm = shutil.which("npm")
        if npm is None:
            raise ThirdPartyError("npm is not on PATH; it comes with Node.js")
        folder.mkdir()
        for name in self.locks:
            shutil.copy(LOCKS / name, folder)
        _run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)

    def command(self) -> Sequence[str | Path]:
        """Its command line, with Node.js."""
        package = self.folder / "node_modules" / "@copilotkit" / "aimock"
        return [_node(), package / "dist" / "cli.js"]


SERVERS: dict[str, Server] = {server.name: server for server in (LiteLlm(), AiMock())}
"""By name."""


def is_installed(server: Server) -> bool:
    """Whether all of it is there."""
    return (server.folder / COMPLETE).exists()


def fetch(server: Server) -> Path:
    """Return the folder with the server; install it when it is not there.

    Raises:
        ThirdPartyError: It cannot be installed.
    """
    folder = server.folder
    if is_installed(server):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_suffix(".lock")):
        if is_installed(server):
            return folder
        # What a broken-off installation left is worth nothing. A virtual environment knows its
        # own path, so that it cannot be made elsewhere and moved here when it is whole.
        shutil.rmtree(folder, ignore_errors=True)
        sys.stderr.write(f"Getting {server.name} into {folder} ...\n")
        server.install(folder)
        (folder / COMPLETE).touch()
    return folder


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is in here with the same file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _node() -> str:
    node = shutil.which("node")
    said = _run(node, "--version") if node else ""
    found = re.match(r"v(\d+)\.(\d+)", said)
    if node is None or found is None or (int(found[1]), int(found[2])) < OLDEST_NODE:
        needed = ".".join(map(str, OLDEST_NODE))
        raise ThirdPartyError(
            f"aimock needs Node.js {needed} or newer on PATH, found {said.strip() or 'none'}; "
            "install it, for example from https://nodejs.org"
        )
    return node


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        raise ThirdPartyError(f"{' '.join(command[:4])} … failed:\n{done.stderr or done.stdout}")
    return done.stdout
