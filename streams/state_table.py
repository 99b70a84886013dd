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

from millrace.streams.deliveries import Delivery
from millrace.streams.publisher import Publisher


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
        stored = self._table.data.get(key)
        if not stored:
            return None
        _, touched, payload = orjson.loads(stored)
        return touched, payload

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
            if stored:
                partition, touched, payload = orjson.loads(stored)
                yield key, partition, touched, payload

    def untouched_since(self, horizon: float, *, limit: int) -> list[tuple[bytes, int]]:
        """Up to `limit` keys, with their partitions, whose state last changed before `horizon`."""
        found: list[tuple[bytes, int]] = []
        for key, partition, touched, _ in self.items():
            if touched < horizon:
                found.append((key, partition))
                if len(found) == limit:
                    break
        return found
