"""State that survives: a Faust table whose writes are ordered after what they vouch for.

A state says "what follows from this record has been sent". So it may reach its changelog only
after the broker has acknowledged what was sent, and the record's offset may be committed only
after the changelog's write is acknowledged: sent, then remembered, then committed. A crash
anywhere in between leads to sending the same again, never to forgetting it.

Faust's own `table[key] = value` writes the changelog at once and looks at no failure, so states
are set in memory here, and written through our publisher when their time has come; Faust recovers
the table from the topic, whoever wrote it.
"""

from collections.abc import Iterator
from typing import Any

import faust
import orjson
import structlog

from millrace.streams.deliveries import Delivery
from millrace.streams.publisher import Publisher

log = structlog.get_logger(__name__)


class StateTable:
    """States by key, in memory, recovered from a compacted changelog topic.

    A stored value is `[partition, touched, payload]`: where the key lives, when the state last
    changed (seconds since the epoch), and the state itself.
    """

    def __init__(self, app: faust.App, name: str, *, publisher: Publisher, partitions: int) -> None:
        self.name = name
        self._publisher = publisher
        self._table = app.Table(
            name,
            key_type=bytes,
            value_type=bytes,
            partitions=partitions,
            help="states, written once what they vouch for has been acknowledged",
        )
        self.changelog = f"{app.conf.id}-{name}-changelog"

    def __len__(self) -> int:
        return len(self._table.data)

    def get(self, key: bytes) -> tuple[float, Any] | None:
        """When a key's state last changed, and its payload; None when there is none."""
        found = self._read(key, self._table.data.get(key))
        return None if found is None else found[1:]

    def set(self, key: bytes, *, partition: int, touched: float, payload: Any) -> bytes:
        """Set a state in memory; the returned bytes are what `write` is to be given."""
        # Copied: what orjson returns keeps the room that it was written in, 4 KB for 50 bytes.
        stored = b"%b" % orjson.dumps([partition, touched, payload])
        self._table.data[key] = stored
        return stored

    def delete(self, key: bytes) -> None:
        """Forget a state in memory; `write` with None makes it last."""
        self._table.data.pop(key, None)

    async def write(self, key: bytes, stored: bytes | None, *, partition: int) -> Delivery:
        """Write a state to the changelog; the future ends when the broker has it."""
        return await self._publisher.publish_bytes(
            self.changelog, stored, key=key, partition=partition
        )

    def items(self) -> Iterator[tuple[bytes, int, float, Any]]:
        """Every state: key, partition, touched, payload."""
        for key, stored in list(self._table.data.items()):
            found = self._read(key, stored)
            if found is not None:
                yield key, *found

    def _read(self, key: bytes, stored: bytes | None) -> tuple[int, float, Any] | None:
        """A state, or None where a changelog holds what no process of ours has written."""
        if not stored:
            return None
        try:
            partition, touched, payload = orjson.loads(stored)
            return int(partition), float(touched), payload
        except (ValueError, TypeError) as error:
            log.warning("state.unreadable", table=self.name, key=repr(key[:80]), error=repr(error))
            return None

    def untouched_since(self, horizon: float, *, limit: int) -> list[tuple[bytes, int]]:
        """Up to `limit` keys, with their partitions, whose state last changed before `horizon`."""
        found: list[tuple[bytes, int]] = []
        for key, partition, touched, _ in self.items():
            if touched < horizon:
                found.append((key, partition))
                if len(found) == limit:
                    break
        return found
