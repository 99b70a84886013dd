"""Whether a topic that a request wants its reply on is there.

Asked before the request is accepted: writing to a topic that does not exist would hold up
everything behind it.
"""

import time
from collections.abc import Callable

from millrace.schemas.errors import BrokerError, InvalidEventError
from millrace.streams.topic_admin import TopicAdmin

_KNOWN_SECONDS = 60.0
_ASK_AGAIN_SECONDS = 1.0


class ReplyTopics:
    """The topics of the cluster, as known within the last minute."""

    def __init__(
        self, *, admin: TopicAdmin, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._admin = admin
        self._monotonic = monotonic
        self._topics: frozenset[str] = frozenset()
        self._asked_at: float | None = None

    async def require(self, topic: str | None) -> None:
        """Accept None and existing topics.

        Raises:
            InvalidEventError: There is no such topic.
            BrokerError: The cluster does not say.
        """
        if topic is not None and not await self._exists(topic):
            raise InvalidEventError(
                f"reply_to: topic {topic!r} does not exist; create it first",
                code="reply_to_not_allowed",
            )

    async def _exists(self, topic: str) -> bool:
        now = self._monotonic()
        age = float("inf") if self._asked_at is None else now - self._asked_at
        known = topic in self._topics
        if age > _KNOWN_SECONDS or (not known and age > _ASK_AGAIN_SECONDS):
            try:
                self._topics = frozenset(await self._admin.partition_counts())
            except BrokerError:
                if not known:
                    raise
            else:
                self._asked_at = now
        return topic in self._topics
