"""What became of each of a great many bad inputs, without keeping them."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from harness.cluster import Cluster
from observing import Observing

STALL_SECONDS = 60.0
"""Without a single record: then nothing more will come."""


@dataclass(slots=True)
class _Fate:
    label: str
    key: bytes | None
    letters: int = 0
    accepted: int = 0
    problem: str | None = None


@dataclass(eq=False)
class Seen:
    """Counts, for each input, its dead letters that are exact and its ends as a request."""

    seed: int
    sent: int = 0
    dead: int = 0
    taken: int = 0
    stray: list[str] = field(default_factory=list)
    """Dead letters of no input."""
    neighbours: dict[str, tuple[str, int]] = field(default_factory=dict)
    """How the others ended, and when, in ms."""
    _by_value: dict[bytes, _Fate] = field(default_factory=dict)
    _by_id: dict[str, _Fate] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """Inputs of which nothing has been heard."""
        return self.sent - self.dead - self.taken

    def expect(self, *, key: bytes | None, value: bytes | None, request_id: str) -> None:
        """An input is about to be sent."""
        fate = _Fate(f"{request_id} {(value or b'')[:60]!r}", key)
        self._by_value[_digest(value)] = self._by_id[request_id] = fate
        self.sent += 1

    def letter(self, body: dict[str, Any]) -> None:
        """A dead letter has come."""
        fate = self._by_value.get(_digest(_bytes(body["value"])))
        if fate is None:
            self.stray.append(f"at {body['partition']}@{body['offset']}: {body['error']}")
            return
        fate.letters += 1
        self.dead += fate.letters == 1
        if body["error"]["code"] == "internal_error":
            fate.problem = "a fault of ours"
        elif _bytes(body["key"]) != fate.key and not _was_moved(body):
            fate.problem = "its key is another one"

    def end(self, body: dict[str, Any], at_ms: int) -> None:
        """A terminal record has come."""
        request_id, status = body["request_id"], body["status"]
        fate = self._by_id.get(request_id)
        if fate is None:
            self.neighbours.setdefault(request_id, (status, at_ms))
        elif status != "rejected":
            fate.accepted += 1
            self.taken += fate.accepted == 1
            if (body["error"] or {}).get("code") == "internal_error":
                fate.problem = f"a fault of ours: {body['error']}"

    def verdict(self) -> list[str]:
        """What is wrong: each input is one exact dead letter, or one request that was taken."""
        wrong = list(self.stray)
        for fate in self._by_id.values():
            if fate.problem is not None:
                wrong.append(f"{fate.label}: {fate.problem}")
            elif fate.letters + fate.accepted != 1:
                wrong.append(f"{fate.label}: {fate.letters} dead letters, {fate.accepted} ends")
        return wrong


class Following:
    """Reads dead letters and responses as they come, until the block ends."""

    def __init__(self, cluster: Cluster, seen: Seen) -> None:
        self.seen = seen
        self._letters = cluster.topic("dead-letters")
        self._consumer: Any = AIOKafkaConsumer(
            self._letters,
            cluster.topic("responses"),
            bootstrap_servers=cluster.bootstrap_servers,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
        )
        self._read_to: dict[TopicPartition, int] = {}
        self._reading = Observing(self._read)

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        await self._reading.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._reading.__aexit__(kind, error, trace)
        await self._consumer.stop()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for records that make something hold.

        Raises:
            AssertionError: None came for a while.
        """
        try:
            await self._reading.until(condition, seconds=STALL_SECONDS, patient=True)
        except TimeoutError:
            raise AssertionError(
                f"nothing came for {STALL_SECONDS:g} s, while waiting for {what}: "
                f"{self.seen.open} inputs are open"
            ) from None

    async def caught_up(self) -> None:
        """Return once everything was read that lay there: a second letter would, too."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        await self.until(
            lambda: all(self._read_to.get(place, 0) >= end for place, end in ends.items()),
            "all that lies there",
        )

    async def _read(self) -> bool:
        batches = await self._consumer.getmany(timeout_ms=1000)
        for partition, records in batches.items():
            for record in records:
                body = json.loads(record.value)
                if partition.topic == self._letters:
                    self.seen.letter(body)
                else:
                    self.seen.end(body, record.timestamp)
            self._read_to[partition] = records[-1].offset + 1
        return bool(batches)


def _digest(value: bytes | None) -> bytes:
    return blake2b(b"-" if value is None else b"+" + value, digest_size=16).digest()


def _bytes(blob: dict[str, str] | None) -> bytes | None:
    if blob is None:
        return None
    if blob["encoding"] == "base64":
        return base64.b64decode(blob["content"])
    return blob["content"].encode()


def _was_moved(letter: dict[str, Any]) -> bool:
    """A router gives a request that lay elsewhere the key that it should have had."""
    return any(header["name"] == "millrace-origin" for header in letter["headers"])
