"""Which partition a request belongs on, whatever client wrote it."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from millrace.client.key_hash import positive_hash
from millrace.schemas.ids import request_id_at
from millrace.streams.dead_letters import RawRecord

ORIGIN_HEADER = "millrace-origin"
"""`topic/partition/offset/timestamp` of a request that was moved to the partition of its key."""


_ORIGIN = re.compile(rb"(.+)/([0-9]{1,5})/([0-9]{1,18})/([0-9]{13})")
"""Times of 13 digits are those from 2001 to 2286."""


class Origin(NamedTuple):
    """Where and when a request was first written."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime

    def header(self) -> tuple[str, bytes]:
        """The header under which a moved request carries its origin."""
        millis = round(self.timestamp.timestamp() * 1000)
        text = f"{self.topic}/{self.partition}/{self.offset}/{millis}"
        return ORIGIN_HEADER, text.encode()

    def request_id(self) -> str:
        """The id of a request that names none."""
        return request_id_at(self.topic, self.partition, self.offset)


def was_moved(record: RawRecord) -> bool:
    """Whether the record is a request that was moved to the partition of its key."""
    return _told_origin(record) is not None


def origin_of(record: RawRecord) -> Origin:
    """The origin that a record's header tells, else the place where it lies."""
    return _told_origin(record) or Origin(
        record.topic, record.partition, record.offset, record.timestamp
    )


def _told_origin(record: RawRecord) -> Origin | None:
    """What its header tells; nothing where a client has written what no router would."""
    for name, value in record.headers:
        if name == ORIGIN_HEADER and (told := _ORIGIN.fullmatch(value or b"")):
            topic, partition, offset, millis = told.groups()
            if topic == record.topic.encode():
                at = datetime.fromtimestamp(int(millis) / 1000, UTC)
                return Origin(record.topic, int(partition), int(offset), at)
    return None


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives a key (murmur2).

    Clients on librdkafka hash with CRC32 unless told otherwise, and some send no key at all: what
    they write lies elsewhere.
    """
    return positive_hash(key) % partitions
