"""Records that wait for a place."""

from datetime import UTC, datetime

from millrace.streams.dead_letters import RawRecord
from millrace.streams.offsets import Partition
from millrace.streams.read_ahead import ReadAhead


def record(offset: int, *, partition: int = 0, size: int = 1) -> RawRecord:
    return RawRecord("calls", partition, offset, datetime.now(UTC), None, b"x" * size)


def test_records_come_out_in_the_order_of_reading() -> None:
    """First in, first out, across partitions."""
    waiting = ReadAhead(records=4, content_bytes=100)
    for each in (record(1), record(7, partition=1), record(2)):
        waiting.put(each)

    taken = [waiting.next() for _ in range(4)]

    assert [each.offset if each else None for each in taken] == [1, 7, 2, None]


def test_room_is_bounded_by_records_and_by_bytes() -> None:
    """Neither many small calls nor a few huge ones fill the memory."""
    small = ReadAhead(records=2, content_bytes=100)
    small.put(record(1))
    huge = ReadAhead(records=2, content_bytes=100)
    huge.put(record(1, size=100))

    assert (small.room, huge.room) == (1, 0)
    assert not huge.low


def test_reading_goes_on_when_half_is_gone() -> None:
    """So that partitions are paused and resumed rarely."""
    waiting = ReadAhead(records=4, content_bytes=100)
    for offset in range(4):
        waiting.put(record(offset))
    full = waiting.low
    waiting.next()
    three = waiting.low
    waiting.next()

    assert (full, three, waiting.low) == (False, False, True)


def test_records_of_a_lost_partition_are_dropped() -> None:
    """Its next owner reads them again."""
    waiting = ReadAhead(records=4, content_bytes=100)
    for each in (record(1, size=60), record(7, partition=1), record(2, size=30)):
        waiting.put(each)

    waiting.drop({Partition("calls", 0)})

    assert len(waiting) == 1
    assert waiting.room == 3
    left = waiting.next()
    assert left is not None
    assert left.partition == 1
