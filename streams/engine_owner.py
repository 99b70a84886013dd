"""Who has the embedded ClickHouse open: its engine lets one process do so at a time."""

import os
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from millrace.schemas.record import Frozen
from millrace.sinks.settings import ClickHouseSettings


class EngineOwner(Frozen):
    """The process that answers SQL for an embedded engine."""

    pid: int = Field(ge=1)
    url: str
    token: str = Field(repr=False)

    @property
    def lives(self) -> bool:
        """Whether the process is there."""
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def owner_file(clickhouse: ClickHouseSettings) -> Path:
    """Where the owner is announced: beside the engine's folder."""
    folder = clickhouse.folder
    return folder.with_name(f"{folder.name}.owner.json")


def find_owner(clickhouse: ClickHouseSettings) -> EngineOwner | None:
    """The process that has the engine open, if any."""
    try:
        owner = EngineOwner.model_validate_json(owner_file(clickhouse).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return owner if owner.lives else None


def announce_owner(clickhouse: ClickHouseSettings, *, url: str, token: str) -> Callable[[], None]:
    """Write the file, readable by this user only; the returned function takes it away."""
    file = owner_file(clickhouse)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    partial.touch(mode=0o600)
    owner = EngineOwner(pid=os.getpid(), url=url, token=token)
    partial.write_text(owner.model_dump_json(), "utf-8")
    partial.replace(file)

    def withdraw() -> None:
        current = find_owner(clickhouse)
        if current is not None and current.pid == os.getpid():
            file.unlink(missing_ok=True)

    return withdraw
