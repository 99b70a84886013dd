"""Where what aiokafka raises becomes what the client raises."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import KafkaError

from millrace.schemas.errors import BrokerError


@contextmanager
def broker_errors(doing: str) -> Iterator[None]:
    """Raise `BrokerError` in place of aiokafka's and the socket's errors."""
    try:
        yield
    except KafkaError as error:
        raise BrokerError(
            f"Kafka: could not {doing}: {type(error).__name__}: {error}; check the servers, the "
            "login, and that this user may use the topics",
            retryable=bool(error.retriable),
        ) from error
    except OSError as error:
        raise BrokerError(f"Kafka: could not {doing}: {error}") from error
