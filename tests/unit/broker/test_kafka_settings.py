"""Kafka settings are checked as a whole and become what clients take."""

# ruff: noqa: S106  (passwords of nothing)

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from pydantic import ValidationError

from millrace.schemas.errors import ConfigurationError
from millrace.schemas.record import describe
from millrace.streams.kafka_settings import KafkaSettings, TopicSettings


def problems(**fields: Any) -> str:
    """What is said of settings that are wrong."""
    with pytest.raises(ValidationError) as caught:
        KafkaSettings(**fields)
    return describe(caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, Path]:
    """An authority's certificate, and a client's with its key."""
    authority = trustme.CA()
    client = authority.issue_cert("client.test")
    paths = {name: tmp_path / name for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    client.cert_chain_pems[0].write_to_path(paths["cert"])
    client.private_key_pem.write_to_path(paths["key"])
    return paths


def test_promised_defaults() -> None:
    """What the documentation says holds with nothing set."""
    settings = KafkaSettings()

    assert settings.bootstrap_servers is None
    assert settings.security_protocol == "PLAINTEXT"
    assert settings.topic_prefix == "llm."
    assert settings.partitions == 6
    assert settings.replication_factor is None
    assert settings.compression == "none"
    assert settings.max_request_bytes == 1_048_576
    assert settings.max_record_bytes == 4_194_304


@pytest.mark.parametrize(
    "given",
    ["a:9092,b:9093", " a:9092 , b:9093 ", ["a:9092", "b:9093"], ("a:9092", "b:9093")],
)
def test_servers_are_given_as_text_or_as_a_list(given: Any) -> None:
    """Environment variables hold text, TOML may hold a list."""
    assert KafkaSettings(bootstrap_servers=given).bootstrap_servers == ("a:9092", "b:9093")


@pytest.mark.parametrize("given", ["", "a", "a:", "a:b", "http://a:1", "a:9092,", "user@a:1"])
def test_what_is_no_server_is_refused(given: str) -> None:
    """A broker's address is host:port."""
    assert "bootstrap_servers" in problems(bootstrap_servers=given)


def test_an_ipv6_server_is_taken() -> None:
    """In brackets, as everywhere."""
    assert KafkaSettings(bootstrap_servers="[::1]:9092").bootstrap_servers == ("[::1]:9092",)


def test_every_field_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    """So that the operator mends them in one go."""
    told = problems(
        compression="rar",
        partitions=0,
        ssl_ca_file=tmp_path / "missing.pem",
        topics={"chunk": {}, "usage": {"retention_hours": -1}},
    )

    for name in ("compression", "partitions", "ssl_ca_file", "topics.chunk", "topics.usage"):
        assert name in told


def test_everything_that_does_not_fit_together_is_named_at_once(
    certificate: dict[str, Path],
) -> None:
    """Also where each field alone is right."""
    told = problems(
        security_protocol="SASL_PLAINTEXT",
        username="u",
        ssl_key_file=certificate["key"],
        heartbeat_interval_seconds=9,
        session_timeout_seconds=10,
        request_timeout_seconds=5,
    )

    assert "needs sasl_mechanism" in told
    assert "needs password or password_env" in told
    assert "ssl_key_file is set, but ssl_cert_file is not" in told
    assert "does not encrypt" in told
    assert "heartbeat_interval_seconds 9.0" in told
    assert "must not exceed request_timeout_seconds 5.0" in told


def test_a_login_that_would_not_happen_is_refused() -> None:
    """A password with PLAINTEXT is most likely a forgotten protocol."""
    told = problems(username="u", password="hidden-77", sasl_mechanism="PLAIN")

    assert "does not log in" in told
    assert "hidden-77" not in told


def test_a_password_has_one_place() -> None:
    """Two could differ."""
    told = problems(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        username="u",
        password="p",
        password_env="P",
    )

    assert "both set" in told


def test_without_a_broker_there_are_no_clients() -> None:
    """The message says how to name one."""
    with pytest.raises(ConfigurationError, match="KAFKA_BOOTSTRAP_SERVERS"):
        KafkaSettings().client_kwargs()


def test_the_password_comes_from_the_variable_that_is_named() -> None:
    """And a variable that is not set is named."""
    settings = KafkaSettings(
        bootstrap_servers="a:1",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        username="u",
        password_env="THE_PASSWORD",
    )

    kwargs = settings.client_kwargs(environ={"THE_PASSWORD": "p"})

    assert kwargs["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (kwargs["sasl_plain_username"], kwargs["sasl_plain_password"]) == ("u", "p")
    with pytest.raises(ConfigurationError, match="THE_PASSWORD"):
        settings.client_kwargs(environ={})


def test_the_password_does_not_show() -> None:
    """Neither in the text nor in the JSON of the settings."""
    settings = KafkaSettings(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        username="u",
        password="hidden-77",
    )

    assert "hidden-77" not in repr(settings) + settings.model_dump_json()


def test_tls_trusts_the_given_authority_and_shows_the_certificate(
    certificate: dict[str, Path],
) -> None:
    """The broker's name is checked unless that is turned off."""
    settings = KafkaSettings(
        bootstrap_servers="a:1",
        security_protocol="SSL",
        ssl_ca_file=certificate["ca"],
        ssl_cert_file=certificate["cert"],
        ssl_key_file=certificate["key"],
    )

    context = settings.client_kwargs()["ssl_context"]
    lax = settings.model_copy(update={"ssl_check_hostname": False}).client_kwargs()["ssl_context"]

    assert context.verify_mode == lax.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not lax.check_hostname
    assert len(context.get_ca_certs()) == 1


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    """With what they must be."""
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    settings = KafkaSettings(bootstrap_servers="a:1", security_protocol="SSL", ssl_ca_file=nonsense)

    with pytest.raises(ConfigurationError, match=r"nonsense\.pem.*must be PEM"):
        settings.client_kwargs()


async def test_clients_take_what_they_are_given() -> None:
    """Aiokafka refuses arguments it does not know, so these objects can be made."""
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1", compression="none")

    consumer = AIOKafkaConsumer(**settings.consumer_kwargs())
    producer = AIOKafkaProducer(**settings.producer_kwargs())

    await consumer.stop()
    await producer.stop()


def test_faust_gets_every_server_and_no_credentials_without_login() -> None:
    """Faust separates addresses by semicolons, each with its scheme."""
    faust = KafkaSettings(bootstrap_servers="a:1,b:2").faust_broker_settings()

    assert faust["broker"] == "kafka://a:1;kafka://b:2"
    assert faust["broker_credentials"] is None


def test_faust_logs_in_over_tls(certificate: dict[str, Path]) -> None:
    """The credentials carry the mechanism and the context, and mean SASL_SSL."""
    settings = KafkaSettings(
        bootstrap_servers="a:1",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        username="u",
        password="p",
        ssl_ca_file=certificate["ca"],
    )

    credentials = settings.faust_broker_settings()["broker_credentials"]

    assert credentials.protocol.value == "SASL_SSL"
    assert credentials.mechanism.value == "SCRAM-SHA-256"
    assert (credentials.username, credentials.password) == ("u", "p")
    assert isinstance(credentials.ssl_context, ssl.SSLContext)


def test_faust_shows_a_certificate_without_a_login(certificate: dict[str, Path]) -> None:
    """The credentials mean SSL."""
    settings = KafkaSettings(
        bootstrap_servers="a:1", security_protocol="SSL", ssl_ca_file=certificate["ca"]
    )

    credentials = settings.faust_broker_settings()["broker_credentials"]

    assert credentials.protocol.value == "SSL"
    assert isinstance(credentials.context, ssl.SSLContext)


def test_the_embedded_broker_needs_no_login() -> None:
    """What is about topics stays, what is about the other cluster goes."""
    settings = KafkaSettings(
        bootstrap_servers="a:1",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        username="u",
        password="p",
        replication_factor=3,
        topic_prefix="x.",
        topics={"chunks": TopicSettings(partitions=9)},
    ).on_embedded("127.0.0.1:5")

    assert settings.bootstrap_servers == ("127.0.0.1:5",)
    assert settings.security_protocol == "PLAINTEXT"
    assert (settings.topic_prefix, settings.topics["chunks"].partitions) == ("x.", 9)
    assert settings.replication_factor is None
    assert settings.session_timeout_seconds == 3.0


@pytest.mark.parametrize(
    "own",
    [
        {"session_timeout_seconds": 20.0},
        {"session_timeout_seconds": 45.0, "request_timeout_seconds": 60.0},
        {"session_timeout_seconds": 0.8, "heartbeat_interval_seconds": 0.2},
    ],
)
def test_a_session_of_ones_own_is_kept_on_the_embedded_broker(own: dict[str, float]) -> None:
    """Who expects no members to come or go need not have a short one."""
    settings = KafkaSettings.model_validate(own).on_embedded("127.0.0.1:5")

    assert settings.session_timeout_seconds == own["session_timeout_seconds"]
