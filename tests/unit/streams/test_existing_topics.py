"""Which topics there are, as a process knows."""

from collections.abc import Mapping

import pytest

from millrace.schemas.errors import BrokerError
from millrace.streams.existing_topics import ExistingTopics


class Cluster:
    """Says which topics it has, or that it is away."""

    def __init__(self, *topics: str) -> None:
        self.topics = set(topics)
        self.away = False
        self.asked = 0
        self.now = 0.0

    async def partition_counts(self) -> Mapping[str, int]:
        self.asked += 1
        if self.away:
            raise BrokerError("the cluster is away")
        return dict.fromkeys(self.topics, 1)

    def existing(self) -> ExistingTopics:
        return ExistingTopics(admin=self, monotonic=lambda: self.now)  # type: ignore[arg-type]


async def test_what_is_known_is_not_asked_for() -> None:
    """It is asked for each record."""
    cluster = Cluster("a")
    existing = cluster.existing()

    assert [await existing.has("a") for _ in range(3)] == [True] * 3
    assert cluster.asked == 1


async def test_what_is_not_there_is_asked_for_again_after_a_second() -> None:
    """It may have been made; a thousand records that name it ask once."""
    cluster = Cluster("a")
    existing = cluster.existing()

    assert [await existing.has("b") for _ in range(1000)] == [False] * 1000
    assert cluster.asked == 1
    cluster.topics.add("b")
    cluster.now = 1.5
    assert await existing.has("b")


async def test_what_was_known_too_long_ago_is_asked_for() -> None:
    """It may have been deleted."""
    cluster = Cluster("a")
    existing = cluster.existing()
    await existing.has("a")
    cluster.topics.clear()
    cluster.now = 61.0

    assert await existing.has("a")
    assert not await existing.has("a", known_seconds=60.0)


async def test_a_cluster_that_is_away_unsays_nothing() -> None:
    """What was known stays known; of anything else nobody can tell."""
    cluster = Cluster("a")
    existing = cluster.existing()
    await existing.has("a")
    cluster.away, cluster.now = True, 61.0

    assert await existing.has("a", known_seconds=60.0)
    with pytest.raises(BrokerError):
        await existing.has("b")
