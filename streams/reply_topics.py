"""Whether a topic that a request wants its reply on is there."""

from dataclasses import dataclass

from millrace.schemas.errors import InvalidEventError
from millrace.streams.existing_topics import ExistingTopics

_KNOWN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyTopics:
    """Asked before a request is accepted; what was there a minute ago is there."""

    existing: ExistingTopics

    async def require(self, topic: str | None) -> None:
        """Accept None and existing topics.

        Raises:
            InvalidEventError: There is no such topic.
            BrokerError: The cluster does not say.
        """
        if topic is not None and not await self.existing.has(topic, known_seconds=_KNOWN_SECONDS):
            raise InvalidEventError(
                f"reply_to: topic {topic!r} does not exist; create it first",
                code="reply_to_not_allowed",
            )
