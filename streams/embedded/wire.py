"""The few fields of Kafka's wire protocol that the gateway looks at.

Layouts are those of the Kafka protocol guide (https://kafka.apache.org/protocol), for the
versions in `VERSIONS`, all from before the compact encoding.
"""

# ruff: noqa: PLR2004  (a version number compared with is its own best name)

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PRODUCE, FETCH, SYNC_GROUP, END_TXN = 0, 1, 14, 26

VERSIONS = {PRODUCE: (3, 8), FETCH: (4, 11), SYNC_GROUP: (0, 3)}
"""The oldest and newest version of a request that can be read here."""

REBALANCE_IN_PROGRESS = 27
INVALID_REQUEST = 42

_I16, _I32 = struct.Struct(">h"), struct.Struct(">i")
_HEADER = struct.Struct(">hhi")
_CORRELATION_BYTES, _THROTTLE_BYTES = 4, 4


class _Cursor:
    """Reads one field after the other."""

    __slots__ = ("_at", "_frame")

    def __init__(self, frame: bytes | bytearray, at: int) -> None:
        self._frame = frame
        self._at = at

    @property
    def at(self) -> int:
        return self._at

    def skip(self, count: int) -> None:
        self._at += count

    def i16(self) -> int:
        (value,) = _I16.unpack_from(self._frame, self._at)
        self._at += 2
        return int(value)

    def i32(self) -> int:
        (value,) = _I32.unpack_from(self._frame, self._at)
        self._at += 4
        return int(value)

    def text(self) -> str:
        """A string; null is empty."""
        size = max(self.i16(), 0)
        value = bytes(self._frame[self._at : self._at + size])
        self._at += size
        return value.decode("utf-8")

    def skip_bytes(self) -> int:
        """Skip a byte array and say how long it was; null is 0."""
        size = max(self.i32(), 0)
        self._at += size
        return size

    def items(self) -> Iterator[int]:
        """Count through an array; null is empty."""
        return iter(range(max(self.i32(), 0)))


@dataclass(frozen=True, slots=True)
class Header:
    """What every request begins with."""

    api: int
    version: int
    body_at: int


def read_header(frame: bytes | bytearray) -> Header:
    """Read the header, which has the client's id as its last field."""
    api, version, _ = _HEADER.unpack_from(frame)
    cursor = _Cursor(frame, _HEADER.size)
    cursor.text()
    return Header(api, version, cursor.at)


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What a consumer waits for."""

    wait_ms: int
    wait_at: int
    """Where `wait_ms` stands in the frame."""
    min_bytes: int
    topics: frozenset[str]


def read_fetch(frame: bytes | bytearray, header: Header) -> FetchRequest:
    """Read a Fetch request."""
    cursor = _Cursor(frame, header.body_at)
    cursor.skip(4)  # replica
    wait_at = cursor.at
    wait_ms, min_bytes = cursor.i32(), cursor.i32()
    cursor.skip(5)  # max_bytes, isolation
    partition_bytes = 16
    if header.version >= 5:
        partition_bytes += 8  # log start
    if header.version >= 7:
        cursor.skip(8)  # session, epoch
    if header.version >= 9:
        partition_bytes += 4  # leader epoch
    topics = set()
    for _ in cursor.items():
        topics.add(cursor.text())
        cursor.skip(partition_bytes * max(cursor.i32(), 0))
    return FetchRequest(wait_ms, wait_at, min_bytes, frozenset(topics))


def without_wait(frame: bytes, request: FetchRequest) -> bytes:
    """The same Fetch request, to be answered at once."""
    copy = bytearray(frame)
    _I32.pack_into(copy, request.wait_at, 0)
    return bytes(copy)


def fetch_says_something(reply: bytes, version: int) -> bool:
    """True when a Fetch reply holds a record or an error."""
    cursor = _Cursor(reply, _CORRELATION_BYTES + _THROTTLE_BYTES)
    if version >= 7:
        if cursor.i16():
            return True
        cursor.skip(4)  # session
    for _ in cursor.items():
        cursor.text()
        for _ in cursor.items():
            cursor.skip(4)  # partition
            if cursor.i16():
                return True
            cursor.skip(16 if version < 5 else 24)  # high watermark, stable offset, log start
            cursor.skip(16 * max(cursor.i32(), 0))  # aborted transactions
            if version >= 11:
                cursor.skip(4)  # preferred replica
            if cursor.skip_bytes():
                return True
    return False


@dataclass(frozen=True, slots=True)
class ProduceRequest:
    """What a producer writes to, and whether it wants to hear of it."""

    acks: int
    topics: frozenset[str]


def read_produce(frame: bytes | bytearray, header: Header) -> ProduceRequest:
    """Read a Produce request."""
    cursor = _Cursor(frame, header.body_at)
    cursor.text()  # transactional id
    acks = cursor.i16()
    cursor.skip(4)  # timeout
    topics = set()
    for _ in cursor.items():
        topics.add(cursor.text())
        for _ in cursor.items():
            cursor.skip(4)  # partition
            cursor.skip_bytes()
    return ProduceRequest(acks, frozenset(topics))


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """A member's word that it has joined; the leader's assigns partitions to every member."""

    group: str
    generation: int
    member: str
    assigned: frozenset[str]
    """The members, in the leader's request; empty in the others'."""


def read_sync(frame: bytes | bytearray, header: Header) -> SyncRequest:
    """Read a SyncGroup request."""
    cursor = _Cursor(frame, header.body_at)
    group, generation, member = cursor.text(), cursor.i32(), cursor.text()
    if header.version >= 3:
        cursor.text()  # group instance id
    assigned = set()
    for _ in cursor.items():
        assigned.add(cursor.text())
        cursor.skip_bytes()
    return SyncRequest(group, generation, member, frozenset(assigned))


def rejoining(reply: bytes, version: int) -> bytes:
    """A SyncGroup reply with "invalid request" made "rebalance in progress"."""
    at = _CORRELATION_BYTES + (_THROTTLE_BYTES if version >= 1 else 0)
    if _I16.unpack_from(reply, at)[0] != INVALID_REQUEST:
        return reply
    copy = bytearray(reply)
    _I16.pack_into(copy, at, REBALANCE_IN_PROGRESS)
    return bytes(copy)
