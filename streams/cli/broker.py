"""Which broker a command talks to."""

from pathlib import Path

from aiokafka import AIOKafkaConsumer

from millrace.schemas.errors import BrokerError, ConfigurationError
from millrace.streams.embedded.state_file import find_running
from millrace.streams.kafka_errors import kafka_errors
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.settings import Settings


def state_file(settings: Settings) -> Path:
    """Where a running embedded broker says that it runs."""
    return settings.data_folder / "broker.json"


def find_broker(settings: Settings) -> KafkaSettings:
    """The configured broker, else the embedded one that runs on this machine.

    Raises:
        ConfigurationError: There is neither.
    """
    if settings.kafka.bootstrap_servers is not None:
        return settings.kafka
    running = find_running(state_file(settings))
    if running is None:
        raise ConfigurationError(
            "no Kafka broker is configured and no embedded one runs here: set "
            "KAFKA_BOOTSTRAP_SERVERS=host:port, or start `millrace up --embedded` in another "
            f"terminal (looked for {str(state_file(settings))!r})"
        )
    return settings.kafka.on_embedded(running.bootstrap_servers)


async def existing_topics(kafka: KafkaSettings) -> frozenset[str]:
    """The topics of the cluster, without bringing any into being.

    Raises:
        BrokerError: The broker cannot be reached.
    """
    consumer = AIOKafkaConsumer(**kafka.client_kwargs())
    try:
        with kafka_errors(f"reach {servers(kafka)}"):
            await consumer.start()
            return frozenset(await consumer.topics())
    finally:
        await consumer.stop()


async def require_topics(kafka: KafkaSettings, *topics: str) -> None:
    """Make sure that topics exist; a client that names one that does not may bring it about.

    Raises:
        BrokerError: One is missing, or the broker cannot be reached.
    """
    missing = [topic for topic in topics if topic not in await existing_topics(kafka)]
    if missing:
        raise BrokerError(
            f"{' and '.join(map(repr, missing))} "
            f"{'does' if len(missing) == 1 else 'do'} not exist at {servers(kafka)}: "
            "create the topics with `millrace topics --create`, or check kafka.topic_prefix",
            retryable=False,
        )


def servers(kafka: KafkaSettings) -> str:
    """The broker's addresses, for messages."""
    return ",".join(kafka.bootstrap_servers or ())
