"""From a client library's record to ours."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from millrace.streams.dead_letters import RawRecord

_FIRST_MS = 1_451_606_400_000
"""2016, when Kafka's records got a time. What lies before is a clock that is not set, a time in
seconds, or -1, which says that there is none."""
_AHEAD_MS = 3_600_000
"""What brokers of these days take, and older ones do not look at."""


def raw_record(record: Any, *, clock: Callable[[], float] = time.time) -> RawRecord:
    """Copy what matters of an aiokafka `ConsumerRecord`.

    What its writer says of its time is believed from 2016 on to an hour ahead of our clock. Any
    other record counts as written when it is read: its deadline would have passed, or never pass.
    """
    millis = record.timestamp
    now = clock()
    timed = _FIRST_MS <= millis <= now * 1000 + _AHEAD_MS
    return RawRecord(
        record.topic,
        record.partition,
        record.offset,
        datetime.fromtimestamp(millis / 1000 if timed else now, UTC),
        record.key,
        record.value,
        tuple(record.headers),
        timed,
    )
