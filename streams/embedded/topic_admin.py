"""The topics of an embedded broker, for the process that started it."""

from collections.abc import Mapping, Sequence

from millrace.schemas.errors import BrokerError
from millrace.streams.embedded.broker import EmbeddedBroker
from millrace.streams.topics import TopicSpec


class EmbeddedTopicAdmin:
    """A `TopicAdmin` over the broker's control channel. Its topics have no configs."""

    def __init__(self, *, broker: EmbeddedBroker) -> None:
        self._broker = broker

    async def partition_counts(self) -> Mapping[str, int]:
        """The topics that were declared."""
        return self._broker.topics

    async def configs(self, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:  # noqa: ARG002 (protocol)
        """Nothing: retention is the same for all, and nothing is compacted."""
        return {}

    async def create(self, specs: Sequence[TopicSpec]) -> Sequence[str]:
        """Declare topics; return the names of those that were not there before."""
        return [
            spec.name for spec in specs if await self._broker.declare(spec.name, spec.partitions)
        ]

    async def set_configs(self, topic: str, configs: Mapping[str, str]) -> None:  # noqa: ARG002 (protocol)
        """Refuse.

        Raises:
            BrokerError: Always.
        """
        raise BrokerError(
            f"topic {topic!r} is on the embedded broker, whose topics have no configs",
            retryable=False,
        )
