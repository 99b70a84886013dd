"""The topics of a Kafka cluster, through aiokafka's admin client."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, TopicAlreadyExistsError, for_code

from millrace.schemas.errors import BrokerError
from millrace.streams.kafka_errors import kafka_errors
from millrace.streams.kafka_reach import check_reachable
from millrace.streams.topics import TopicSpec

_DYNAMIC_TOPIC_CONFIG = 1
"""`config_source` of a value that was set on the topic itself."""

_BROKER_DEFAULT = -1


class KafkaTopicAdmin:
    """A `TopicAdmin` for a cluster; an async context manager that holds a connection.

    `client_kwargs` are those of `KafkaSettings.client_kwargs()`.
    """

    def __init__(self, *, client_kwargs: Mapping[str, Any]) -> None:
        self._client_kwargs = client_kwargs
        self._client: Any = None

    async def __aenter__(self) -> Self:
        client = AIOKafkaAdminClient(**self._client_kwargs)
        try:
            await check_reachable(self._client_kwargs)
            with kafka_errors("connect"):
                await client.start()
        except BaseException:
            await client.close()
            raise
        self._client = client
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def partition_counts(self) -> Mapping[str, int]:
        """Every topic that this user may see, and how many partitions it has."""
        with kafka_errors("list topics"):
            topics = await self._client.describe_topics()
        return {
            topic["topic"]: len(topic["partitions"]) for topic in topics if not topic["error_code"]
        }

    async def configs(self, topics: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """The configs of these topics; nothing from the embedded broker, which has none."""
        return {
            name: {key: value for key, value, _ in entries}
            for name, entries in (await self._entries(topics)).items()
        }

    async def create(self, specs: Sequence[TopicSpec]) -> Sequence[str]:
        """Make topics; return the names of those that were not there before.

        Raises:
            BrokerError: Some could not be made; names each, and those before and after it are
                made nevertheless.
        """
        wanted = [
            NewTopic(
                spec.name,
                spec.partitions,
                spec.replication_factor or _BROKER_DEFAULT,
                # aiokafka wants this one given along with a default replication factor.
                replica_assignments=None if spec.replication_factor else {},
                topic_configs=spec.configs,
            )
            for spec in specs
        ]
        with kafka_errors("create topics"):
            reply = await self._client.create_topics(wanted)
        created, problems = [], []
        for name, code, *message in reply.topic_errors:
            if not code:
                created.append(name)
            elif code != TopicAlreadyExistsError.errno:
                reason = " ".join(part for part in message if part)
                problems.append(f"{name}: {for_code(code).__name__} {reason}".rstrip())
        if problems:
            raise BrokerError(
                f"Kafka: could not create topics: {'; '.join(problems)}", retryable=False
            )
        return created

    async def set_configs(self, topic: str, configs: Mapping[str, str]) -> None:
        """Change these configs of a topic and leave its others.

        The request replaces all that was set on the topic, so those are read first and sent
        along; a change that somebody else makes in between is undone.
        """
        entries = (await self._entries([topic])).get(topic, [])
        kept = {key: value for key, value, source in entries if source == _DYNAMIC_TOPIC_CONFIG}
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={**kept, **configs})
        with kafka_errors(f"change configs of {topic!r}"):
            for reply in await self._client.alter_configs([resource]):
                for code, message, *_ in reply.resources:
                    if code:
                        raise for_code(code)(message)

    async def _entries(self, topics: Sequence[str]) -> dict[str, list[tuple[str, str, int]]]:
        """Name, value and source of each config of each topic."""
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
        found = {}
        with kafka_errors("describe topics"):
            try:
                replies = await self._client.describe_configs(resources)
            except IncompatibleBrokerVersion:
                return {}
            for reply in replies:
                for code, message, _, name, entries in reply.resources:
                    if code:
                        raise for_code(code)(message)
                    found[name] = [(entry[0], entry[1], entry[3]) for entry in entries]
        return found
