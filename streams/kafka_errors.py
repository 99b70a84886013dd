"""Where what aiokafka raises becomes what Millrace raises."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    NoBrokersAvailable,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)

from millrace.schemas.errors import BrokerError

_REFUSED = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)
_UNREACHABLE = (KafkaConnectionError, NoBrokersAvailable, OSError)


@contextmanager
def kafka_errors(doing: str) -> Iterator[None]:
    """Raise `BrokerError` in place of aiokafka's and the socket's errors.

    `doing` continues "Kafka: could not …". Errors that another attempt may not have say
    `retryable`; what a login or a right was refused does not.
    """
    try:
        yield
    except _REFUSED as error:
        raise BrokerError(
            f"Kafka: could not {doing}: {_reason(error)}; check kafka.username, the password, "
            "kafka.sasl_mechanism and what this user may do",
            retryable=False,
        ) from error
    except ssl.SSLError as error:
        raise BrokerError(
            f"Kafka: could not {doing}: {_reason(error)}; check that kafka.security_protocol is "
            "the listener's, kafka.ssl_ca_file, and whether it asks for kafka.ssl_cert_file",
            retryable=False,
        ) from error
    except _UNREACHABLE as error:
        raise BrokerError(
            f"Kafka: could not {doing}: {_reason(error)}; check that the broker runs, "
            "kafka.bootstrap_servers, and that kafka.security_protocol is the listener's"
        ) from error
    except IncompatibleBrokerVersion as error:
        raise BrokerError(
            f"Kafka: could not {doing}: this broker does not offer it ({_reason(error)})",
            retryable=False,
        ) from error
    except KafkaError as error:
        raise BrokerError(
            f"Kafka: could not {doing}: {_reason(error)}", retryable=bool(error.retriable)
        ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
