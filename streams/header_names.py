"""Reading records whose headers' names are not UTF-8.

Kafka calls a header's name a string, and no broker looks whether it is one. aiokafka 0.14 raises
at the first that is none: what it had read before is skipped unseen, the partition is read no
further, and Faust's consumer ends with its process, at every start again. Any client could do that
to everybody, so a fetch that cannot be read strictly is read once more, leniently.
"""

from collections.abc import Iterator
from typing import Any, Self

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

_HEADERS_SINCE = 2
"""The format of batches whose records have headers."""


class HeaderName(str):
    """A name that is no UTF-8, readable as far as it can be, with the bytes that it has."""

    __slots__ = ("raw",)

    raw: bytes

    def __new__(cls, raw: bytes) -> Self:
        """Put U+FFFD in the place of what cannot be read."""
        name = super().__new__(cls, raw.decode("utf-8", errors="replace"))
        name.raw = raw
        return name


def read_any_header_name() -> None:
    """Let every consumer of this process read such records; harmless to repeat."""
    fetcher.MemoryRecords = _Fetched
    fetcher.PartitionRecords = _PartitionRecords


class _Fetched(MemoryRecords):  # type: ignore[misc]
    """What a fetch brought of a partition, with its bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of a fetch: read strictly, and leniently from the first that cannot be so."""

    _records: Any
    _aborted_transactions: Any

    def __init__(self, tp: Any, records: Any, aborted_transactions: Any, *rest: Any) -> None:
        super().__init__(tp, records, aborted_transactions, *rest)
        self._aborted_at_first = list(self._aborted_transactions)
        self._records_iterator = self._each()

    def _each(self) -> Iterator[Any]:
        try:
            yield from self._unpack_records()
        except (UnicodeDecodeError, CorruptRecordException):
            # From the beginning: what precedes says which transactions were aborted.
            self._records = _LenientRecords(self._records.data)
            self._aborted_transactions = self._aborted_at_first
            self._aborted_producers.clear()
        else:
            return
        next_offset = self.next_fetch_offset
        for record in self._unpack_records():
            if record.offset >= next_offset:
                yield record


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """A fetch, whose batches are read by aiokafka's own Python code."""

    def next_batch(self) -> Any:
        """The next batch, of whatever format."""
        batch, data = self._next_slice, bytes(self._next_slice)
        self._cache_next()
        magic = batch[self.MAGIC_OFFSET]
        return _LenientBatch(data) if magic >= _HEADERS_SINCE else LegacyRecordBatch(data, magic)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Buffer(self._buffer)


class _Buffer(bytearray):
    """Of a batch; what is cut out of it can be decoded whatever it is."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _Piece(found) if isinstance(index, slice) else found


class _Piece(bytes):
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        try:
            return super().decode(encoding, errors)
        except UnicodeDecodeError:
            return HeaderName(bytes(self))
