"""Where other processes of the same user read that an embedded broker runs."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from pydantic import Field, ValidationError

from millrace.schemas.errors import ConfigurationError
from millrace.schemas.record import Frozen

_CONNECT_SECONDS = 1.0
_HINT = "name a folder that can be used, as data_folder or MILLRACE_DATA_FOLDER"


class RunningBroker(Frozen):
    """An embedded broker that somebody started."""

    bootstrap_servers: str = Field(pattern=r"^127\.0\.0\.1:\d{1,5}$")
    pid: int = Field(ge=1)
    """Of the broker's own process."""

    @property
    def answers(self) -> bool:
        """True when its process lives and its port takes connections."""
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        host, _, port = self.bootstrap_servers.partition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
                return True
        except OSError:
            return False


def find_running(state_file: Path) -> RunningBroker | None:
    """The broker that the file names, or None where there is none or it no longer answers."""
    try:
        broker = RunningBroker.model_validate_json(state_file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    except OSError as error:
        raise ConfigurationError(
            f"{str(state_file)!r} cannot be read: {error.strerror}; {_HINT}"
        ) from error
    return broker if broker.answers else None


def write_state(state_file: Path, broker: RunningBroker) -> None:
    """Put the file in place whole, readable by its owner only."""
    partial = state_file.with_name(f"{state_file.name}.{broker.pid}")
    try:
        state_file.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(mode=0o600)
        partial.write_text(broker.model_dump_json(), "utf-8")
        partial.replace(state_file)
    except OSError as error:
        raise ConfigurationError(
            f"{str(state_file)!r} cannot be written: {error.strerror}; {_HINT}"
        ) from error


def remove_state(state_file: Path, broker: RunningBroker) -> None:
    """Remove the file if it still names this broker."""
    with suppress(OSError, ValidationError):
        if RunningBroker.model_validate_json(state_file.read_bytes()) == broker:
            state_file.unlink()
