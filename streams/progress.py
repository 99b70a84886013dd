"""What the consumers of this pipeline share: committing what is done, and counting what waits."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.offsets import Commit, OffsetTracker, Partition

log = structlog.get_logger(__name__)

RESUME_SECONDS = 5.0
"""How long the first records of a partition may wait for what its commit says."""

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
    """Commit as far as the tracker allows, and note in the commit what is done beyond it.

    What the broker refuses stays uncommitted, and is tried again with the next commit.
    """
    commits = tracker.commits()
    if not commits:
        return
    try:
        await consumer.commit(
            {TopicPartition(*partition): tuple(commit) for partition, commit in commits.items()}
        )
    except LOST_MEMBERSHIP as error:
        log.info("commit.skipped", topic=topic, reason=type(error).__name__)
    except KafkaError as error:
        # Until the next interval the offsets stay uncommitted.
        log.warning("commit.failed", topic=topic, reason=type(error).__name__)
    else:
        for partition, commit in commits.items():
            tracker.committed(partition, commit)


ResumeFromCommits = Callable[
    [KafkaSettings, OffsetTracker, str, Iterable[Partition]], Awaitable[None]
]
"""As `resume_from_commits`."""


async def resume_from_commits(
    kafka: KafkaSettings, tracker: OffsetTracker, group: str, partitions: Iterable[Partition]
) -> None:
    """Tell the tracker what the group's commits say of these partitions.

    Where the broker does not answer in time nothing is known, and more is done again.
    """
    wanted = [TopicPartition(*each) for each in partitions]
    if not wanted:
        return
    # A consumer gives the offset alone.
    admin = AIOKafkaAdminClient(**kafka.client_kwargs())
    try:
        async with asyncio.timeout(RESUME_SECONDS):
            await admin.start()
            found = await admin.list_consumer_group_offsets(group, partitions=wanted)
    except (KafkaError, TimeoutError, OSError) as error:
        log.warning("commits.unread", group=group, reason=type(error).__name__)
        return
    finally:
        await admin.close()
    for at, commit in found.items():
        if commit.offset >= 0:
            tracker.resume(Partition(*at), Commit(commit.offset, commit.metadata or ""))


async def unread(consumer: AIOKafkaConsumer) -> int:
    """How many records of the assigned partitions have not been read."""
    total = 0
    for partition in consumer.assignment():
        end = consumer.highwater(partition)
        if end:
            total += max(0, end - await consumer.position(partition))
    return total
