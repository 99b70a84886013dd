"""From a client library's record to ours."""

from datetime import UTC, datetime
from typing import Any

from millrace.streams.dead_letters import RawRecord


def raw_record(record: Any) -> RawRecord:
    """Copy what matters of an aiokafka `ConsumerRecord`."""
    return RawRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
    )
