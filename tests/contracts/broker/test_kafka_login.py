"""Settings log in where Kafka asks who is there, and say what is wrong where they cannot."""

# ruff: noqa: S106  (passwords of nothing)

from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from kafka_security import SecureKafka

from millrace.schemas.errors import BrokerError
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.kafka_topic_admin import KafkaTopicAdmin
from millrace.streams.topic_admin import create_missing
from millrace.streams.topics import topic_specs

pytestmark = pytest.mark.kafka


def settings_for(kafka: SecureKafka, way: str, prefix: str, **changes: Any) -> KafkaSettings:
    """Settings for one of the listeners."""
    login = {"username": kafka.username, "password": kafka.password}
    ways: dict[str, dict[str, Any]] = {
        "SASL_SSL": {"bootstrap_servers": kafka.sasl_ssl, "ssl_ca_file": kafka.ca_file, **login},
        "SASL_PLAINTEXT": {"bootstrap_servers": kafka.sasl_plaintext, **login},
        "SSL": {
            "bootstrap_servers": kafka.ssl,
            "ssl_ca_file": kafka.ca_file,
            "ssl_cert_file": kafka.cert_file,
            "ssl_key_file": kafka.key_file,
        },
    }
    protocol, _, mechanism = way.partition(" ")
    return KafkaSettings(
        security_protocol=protocol,
        sasl_mechanism=mechanism or None,
        topic_prefix=prefix,
        partitions=1,
        **(ways[protocol] | changes),
    )


@pytest.mark.parametrize(
    "way",
    [
        "SASL_SSL PLAIN",
        "SASL_SSL SCRAM-SHA-256",
        "SASL_SSL SCRAM-SHA-512",
        "SASL_PLAINTEXT PLAIN",
        "SASL_PLAINTEXT SCRAM-SHA-512",
        "SSL",
    ],
)
async def test_every_client_gets_in(secure_kafka: SecureKafka, topic_prefix: str, way: str) -> None:
    """Admin, producer and a consumer in a group, by each protocol and mechanism."""
    settings = settings_for(secure_kafka, way, topic_prefix)
    topic = f"{topic_prefix}requests"
    async with KafkaTopicAdmin(client_kwargs=settings.client_kwargs()) as admin:
        await create_missing(admin, topic_specs(settings, providers=[])[:1])
    async with AIOKafkaProducer(**settings.producer_kwargs()) as producer:
        await producer.send_and_wait(topic, b"hello")
    kwargs = settings.consumer_kwargs() | {"auto_offset_reset": "earliest"}
    async with AIOKafkaConsumer(topic, group_id=topic, **kwargs) as consumer:
        record = await consumer.getone()

    assert record.value == b"hello"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_said_to_be_one(
    secure_kafka: SecureKafka, topic_prefix: str, mechanism: str
) -> None:
    """The error tells which settings to look at, holds no password, and is not to be retried."""
    settings = settings_for(
        secure_kafka, f"SASL_SSL {mechanism}", topic_prefix, password="not-it-9134"
    )
    with pytest.raises(BrokerError, match=r"check kafka\.username") as caught:
        async with KafkaTopicAdmin(client_kwargs=settings.client_kwargs()):
            pass

    assert "not-it-9134" not in str(caught.value)
    assert not caught.value.retryable


async def test_a_broker_that_no_trusted_authority_signed_is_not_trusted(
    secure_kafka: SecureKafka, topic_prefix: str
) -> None:
    """No password goes to it."""
    settings = settings_for(
        secure_kafka, "SASL_SSL PLAIN", topic_prefix, ssl_ca_file=secure_kafka.other_ca_file
    )
    with pytest.raises(BrokerError, match="could not connect"):
        async with KafkaTopicAdmin(client_kwargs=settings.client_kwargs()):
            pass


async def test_a_client_without_certificate_is_not_let_in(
    secure_kafka: SecureKafka, topic_prefix: str
) -> None:
    """The listener asks for one."""
    settings = settings_for(
        secure_kafka, "SSL", topic_prefix, ssl_cert_file=None, ssl_key_file=None
    )
    with pytest.raises(BrokerError, match="could not connect"):
        async with KafkaTopicAdmin(client_kwargs=settings.client_kwargs()):
            pass


async def test_a_plain_client_at_a_listener_with_tls_is_told(
    secure_kafka: SecureKafka, topic_prefix: str
) -> None:
    """The message speaks of the protocol."""
    settings = KafkaSettings(
        bootstrap_servers=secure_kafka.sasl_ssl,
        topic_prefix=topic_prefix,
        request_timeout_seconds=10,
    )
    with pytest.raises(BrokerError, match=r"kafka\.security_protocol"):
        async with KafkaTopicAdmin(client_kwargs=settings.client_kwargs()):
            pass
