"""What the consumers of this pipeline share: committing what is done, and counting what waits."""

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from millrace.streams.offsets import OffsetTracker

log = structlog.get_logger(__name__)

LOST_MEMBERSHIP = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
"""Commits refused because the partitions are changing hands: whoever gets them reads the
records again, so nothing is lost by giving up the commit."""


async def commit_progress(
    consumer: AIOKafkaConsumer, tracker: OffsetTracker, *, topic: str
) -> None:
    """Commit as far as the tracker allows; what the broker refuses stays uncommitted."""
    offsets = tracker.committable()
    if not offsets:
        return
    try:
        await consumer.commit(
            {TopicPartition(*partition): offset for partition, offset in offsets.items()}
        )
    except LOST_MEMBERSHIP as error:
        log.info("commit.skipped", topic=topic, reason=type(error).__name__)
    except KafkaError as error:
        # Tried again at the next interval; until then the offsets stay uncommitted.
        log.warning("commit.failed", topic=topic, reason=type(error).__name__)
    else:
        for partition, offset in offsets.items():
            tracker.committed(partition, offset)


async def unread(consumer: AIOKafkaConsumer) -> int:
    """How many records of the assigned partitions have not been read."""
    total = 0
    for partition in consumer.assignment():
        end = consumer.highwater(partition)
        if end:
            total += max(0, end - await consumer.position(partition))
    return total
