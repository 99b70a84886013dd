"""Space that the embedded engine leaves free on its disk, as it must not write to a full one.

chDB 4.4 (ClickHouse 26.9) refuses an insert for which there is no space, and nothing is lost by
that. A merge that runs out of space is another matter: seen on a full tmpfs, it ends well, with
an empty file of marks, and in place of the parts that it was made from (error 246,
CORRUPTED_DATA, whenever the table is read from then on). So both stop while some space is left.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from clickhouse_connect.driver.client import Client

from millrace.schemas.errors import SinkUnavailableError

_RETRY_SECONDS = 5.0
_MIB = 1 << 20


def free_bytes(path: Path) -> int:
    """What the file system of a path has left for us; the path itself need not exist yet.

    Raises:
        OSError: Nobody can tell.
    """
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


class DiskReserve:
    """Lets the engine write while `least_bytes` are free, and stops it before they are used up."""

    def __init__(
        self, path: Path, *, least_bytes: int, free: Callable[[Path], int] = free_bytes
    ) -> None:
        self._path = path
        self._least_bytes = least_bytes
        self._free = free
        self._merging = True

    def check(self, client: Client | None) -> None:
        """Return if there is space; merges are stopped meanwhile if not. Blocks.

        Without a client, nothing has been opened whose merges could be stopped.

        Raises:
            SinkUnavailableError: The disk is almost full; try again after `retry_after` seconds.
        """
        free = self._free(self._path)
        if free < self._least_bytes:
            if client is not None and self._merging:
                client.command("SYSTEM STOP MERGES")
                self._merging = False
            raise SinkUnavailableError(
                f"the disk of {self._path} is almost full: {free // _MIB} MiB are free, and "
                f"clickhouse.engine_min_free_bytes keeps {self._least_bytes // _MIB} MiB; make "
                "room. What comes meanwhile waits on the topics",
                retry_after=_RETRY_SECONDS,
            )
        if client is not None and not self._merging:
            client.command("SYSTEM START MERGES")
            self._merging = True
