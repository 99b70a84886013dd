"""Which topics the cluster has.

Asked before something is written to a topic that somebody else has named: a producer waits for one
that does not exist, and with it everything behind.
"""

import time
from collections.abc import Callable

from millrace.schemas.errors import BrokerError
from millrace.streams.topic_admin import TopicAdmin

_ASK_AGAIN_SECONDS = 1.0


class ExistingTopics:
    """The topics of the cluster, asked for when they are needed."""

    def __init__(
        self, *, admin: TopicAdmin, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._admin = admin
        self._monotonic = monotonic
        self._topics: frozenset[str] = frozenset()
        self._asked_at: float | None = None

    async def has(self, topic: str, *, known_seconds: float = float("inf")) -> bool:
        """Whether there is such a topic, as far as was known within `known_seconds`.

        One that is not known is asked for again after a second.

        Raises:
            BrokerError: The cluster does not say, and it is not known from before.
        """
        now = self._monotonic()
        age = float("inf") if self._asked_at is None else now - self._asked_at
        known = topic in self._topics
        if age > known_seconds or (not known and age > _ASK_AGAIN_SECONDS):
            try:
                self._topics = frozenset(await self._admin.partition_counts())
            except BrokerError:
                if not known:
                    raise
            else:
                self._asked_at = now
        return topic in self._topics
