"""How to reach Kafka and what its topics are to be like: section `[kafka]` of the config file."""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field

from millrace.client.connection import KafkaConnection
from millrace.schemas.record import Frozen

IsolationLevel = Literal["read_uncommitted", "read_committed"]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
TopicKind = Literal[
    "requests",
    "calls",
    "chunks",
    "outcomes",
    "responses",
    "usage",
    "cancellations",
    "dead-letters",
    "evaluations",
    "retries",
    "provider-health",
]

_CODEC_PACKAGE = "cramjam"
"""What aiokafka compresses with, gzip apart."""

DEAD_LETTER_FACTOR = 4
"""A dead letter holds a whole record of an internal topic, whose JSON it has to escape."""

METADATA_SECONDS = 15.0
"""How soon a group takes up partitions that were added to a topic; five minutes is the library's
own, for which what lies there would wait."""


class TopicSettings(Frozen):
    """What differs for one kind of topic; unset values are the pipeline's own."""

    partitions: int | None = Field(default=None, ge=1, le=10_000)
    retention_hours: float | None = Field(default=None, gt=0)


class KafkaSettings(KafkaConnection):
    """A Kafka cluster, how to log in, and how topics are made there."""

    partitions: int = Field(default=6, ge=1, le=10_000)
    """Of each topic: the most processes of a role that can share its work."""
    replication_factor: int | None = Field(default=None, ge=1, le=32)
    """None leaves it to the cluster's default."""
    topics: dict[TopicKind, TopicSettings] = Field(default_factory=dict)
    """By the topic's name without prefix; `calls` means those of every provider."""
    max_request_bytes: int = Field(default=1_048_576, ge=1024, le=20_000_000)
    """The largest record on the requests topic; topics that wrap requests take more."""

    isolation_level: IsolationLevel = "read_uncommitted"
    """`read_committed` leaves out requests whose producer aborted its transaction, and holds up
    everybody's on a partition while one of them is open."""
    compression: Compression = "none"
    """Of what we produce. lz4 makes topics of text a third as large, for a seventh more CPU."""
    linger_ms: int = Field(default=2, ge=0, le=1000)
    """How long a producer waits for more records to send at once."""
    patient_linger_ms: int = Field(default=25, ge=0, le=1000)
    """The same for records that nobody waits for: what was spent, and the tables' changelogs.
    Larger batches cost broker and process far less."""
    session_timeout_seconds: float = Field(default=10.0, gt=0)
    """A member that is silent for so long loses its partitions."""
    heartbeat_interval_seconds: float = Field(default=3.0, gt=0)
    poll_timeout_seconds: float = Field(default=300.0, gt=0)
    """A member that takes no records for so long loses its partitions (max.poll.interval)."""

    def _problems(self) -> list[str]:
        return [*super()._problems(), *self._other_problems()]

    def _other_problems(self) -> list[str]:
        problems = []
        if self.compression in {"snappy", "lz4", "zstd"} and not importlib.util.find_spec(
            _CODEC_PACKAGE
        ):
            problems.append(
                f"compression {self.compression} needs the package {_CODEC_PACKAGE}: "
                "install it, or use gzip or none"
            )
        if self.heartbeat_interval_seconds > self.session_timeout_seconds / 2:
            problems.append(
                f"heartbeat_interval_seconds {self.heartbeat_interval_seconds} must be at most "
                f"half of session_timeout_seconds {self.session_timeout_seconds}"
            )
        if self.session_timeout_seconds > self.request_timeout_seconds:
            problems.append(
                f"session_timeout_seconds {self.session_timeout_seconds} must not exceed "
                f"request_timeout_seconds {self.request_timeout_seconds}"
            )
        return problems

    @property
    def max_record_bytes(self) -> int:
        """The largest record any topic takes, which producers must be able to send."""
        return self.max_request_bytes * DEAD_LETTER_FACTOR

    def on_embedded(self, bootstrap_servers: str) -> Self:
        """These settings for the embedded broker at that address; nothing about logging in.

        When a member comes or goes, that broker waits until a second before the session would
        time out and only then shares the partitions anew, so the session is short unless these
        settings name one.
        """
        own_session = "session_timeout_seconds" in self.model_fields_set
        session_seconds = self.session_timeout_seconds if own_session else 3.0
        return type(self)(
            bootstrap_servers=(bootstrap_servers,),
            client_id=self.client_id,
            topic_prefix=self.topic_prefix,
            partitions=self.partitions,
            topics=self.topics,
            max_request_bytes=self.max_request_bytes,
            isolation_level=self.isolation_level,
            compression=self.compression,
            linger_ms=self.linger_ms,
            patient_linger_ms=self.patient_linger_ms,
            session_timeout_seconds=session_seconds,
            heartbeat_interval_seconds=min(0.5, session_seconds / 2),
            request_timeout_seconds=self.request_timeout_seconds,
            poll_timeout_seconds=self.poll_timeout_seconds,
        )

    def consumer_kwargs(self, *, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
        """`client_kwargs`, and how consumers of this pipeline behave; commits are explicit."""
        return {
            **self.client_kwargs(environ=environ),
            "enable_auto_commit": False,
            "isolation_level": self.isolation_level,
            "session_timeout_ms": _ms(self.session_timeout_seconds),
            "heartbeat_interval_ms": _ms(self.heartbeat_interval_seconds),
            "max_poll_interval_ms": _ms(self.poll_timeout_seconds),
            "metadata_max_age_ms": _ms(METADATA_SECONDS),
        }

    def producer_kwargs(self, *, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
        """`client_kwargs`, and how producers of this pipeline behave: idempotent, all acks."""
        return {
            **self.client_kwargs(environ=environ),
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": self._compression_type,
            "linger_ms": self.linger_ms,
            "max_request_size": self.max_record_bytes,
        }

    def faust_broker_settings(self, *, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
        """The settings of `faust.App` that say how to reach the broker and how to behave there.

        Faust takes security from `broker_credentials` alone and would read an SSL context in
        place of them as protocol SSL, so SASL over TLS carries its context inside.

        Raises:
            ConfigurationError: As `client_kwargs`.
        """
        # Faust takes a second to import, which only processes that run it should pay.
        from faust import SASLCredentials, SSLCredentials  # noqa: PLC0415

        kwargs = self.client_kwargs(environ=environ)
        credentials = None
        if self._uses_sasl:
            credentials = SASLCredentials(
                username=kwargs["sasl_plain_username"],
                password=kwargs["sasl_plain_password"],
                mechanism=kwargs["sasl_mechanism"],
                ssl_context=kwargs.get("ssl_context"),
            )
        elif self._uses_tls:
            credentials = SSLCredentials(kwargs["ssl_context"])
        return {
            "broker": ";".join(f"kafka://{server}" for server in kwargs["bootstrap_servers"]),
            "broker_credentials": credentials,
            "broker_client_id": self.client_id,
            "broker_request_timeout": self.request_timeout_seconds,
            "broker_session_timeout": self.session_timeout_seconds,
            "broker_heartbeat_interval": self.heartbeat_interval_seconds,
            "broker_max_poll_interval": self.poll_timeout_seconds,
            "producer_acks": -1,
            "producer_compression_type": self._compression_type,
            "producer_linger": self.linger_ms / 1000,
            "producer_max_request_size": self.max_record_bytes,
            "producer_request_timeout": self.request_timeout_seconds,
            "topic_replication_factor": self.replication_factor or 1,
        }

    @property
    def _compression_type(self) -> str | None:
        return None if self.compression == "none" else self.compression


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
