"""Writing to Kafka so that nobody need wonder whether a record arrived."""

import asyncio
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordTooLargeError,
    UnknownTopicOrPartitionError,
)

from millrace.schemas.errors import BrokerError, PipelineError
from millrace.schemas.record import Record
from millrace.streams.batches import Batches
from millrace.streams.deliveries import BatchDelivery, Delivery
from millrace.streams.existing_topics import ExistingTopics
from millrace.streams.kafka_errors import kafka_errors
from millrace.streams.kafka_settings import KafkaSettings

log = structlog.get_logger(__name__)

_ASK_AGAIN_SECONDS = 1.0

PRODUCE_TIMEOUT_MS = 120_000
"""How long a partition may be without a leader before a batch fails. A broker that does not
answer is asked again for ever: an idempotent producer does not give a batch up."""

BATCH_BYTES = 512 * 1024
"""At most: a partition has one batch under way, so that this over the broker's delay bounds its
rate. Never more than topics take as one record, which is how a broker judges a batch."""


class Publisher:
    """An idempotent producer: acknowledged by all replicas, in order, without duplicates.

    `publish` returns once the record is in the producer's bounded buffer, with its delivery: await
    that before committing whatever the record was made from. A delivery that
    fails for any reason but the record's own size calls `on_failure` once: the producer cannot
    go on then, and neither should the process.
    """

    def __init__(
        self,
        *,
        settings: KafkaSettings,
        linger_ms: int | None = None,
        on_failure: Callable[[PipelineError], None] | None = None,
        existing: ExistingTopics | None = None,
    ) -> None:
        self._producer = AIOKafkaProducer(
            **{
                **settings.producer_kwargs(),
                "max_batch_size": min(BATCH_BYTES, settings.max_request_bytes),
                "request_timeout_ms": PRODUCE_TIMEOUT_MS,
                **({} if linger_ms is None else {"linger_ms": linger_ms}),
            }
        )
        # aiokafka has one setting for both: how long a batch may wait, and how long one request. A
        # connection that went dead must be noticed long before its batches are given up.
        self._producer.client._request_timeout_ms = round(  # noqa: SLF001
            settings.request_timeout_seconds * 1000
        )
        self._on_failure = on_failure
        self._existing = existing
        self._max_record_bytes = settings.max_record_bytes
        self._batches = Batches(
            self._producer,
            max_record_bytes=settings.max_record_bytes,
            on_failed=self._failed,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise translate(error, "connect to Kafka") from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._producer.stop()

    async def publish(
        self,
        topic: str,
        record: Record,
        *,
        key: str | bytes | None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        partition: int | None = None,
        essential: bool = True,
        value: bytes | None = None,
    ) -> Delivery:
        """Hand a record to the producer; what is returned ends with its delivery.

        One that is not `essential` fails alone: `on_failure` does not hear of it. `value` is the
        record as it is to be written, for who has its JSON already.

        Raises:
            PipelineError: There is no such topic.
            BrokerError: The record can never be sent, or the producer has failed.
        """
        return await self.publish_bytes(
            topic,
            record.encode() if value is None else value,
            key=key.encode() if isinstance(key, str) else key,
            headers=[*record.kafka_headers(), *headers],
            partition=partition,
            essential=essential,
        )

    def publish_now(
        self,
        topic: str,
        record: Record,
        *,
        key: str,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> Delivery | None:
        """As `publish`, where that need not wait; None, and nothing done, where it has to."""
        return self._batches.append(
            topic,
            record.encode(),
            key=key.encode(),
            headers=[*record.kafka_headers(), *headers],
            partition=None,
            essential=True,
        )

    async def publish_bytes(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        partition: int | None = None,
        essential: bool = True,
    ) -> Delivery:
        """Hand raw bytes to the producer; what is returned ends with their delivery.

        Raises:
            PipelineError: There is no such topic.
            BrokerError: As `publish`.
        """
        listed = list(headers)
        added = self._batches.append(
            topic, value, key=key, headers=listed, partition=partition, essential=essential
        )
        if added is not None:
            return added
        await self.require_topic(topic)
        try:
            delivery = await self._send(
                topic, value=value, key=key, headers=listed, partition=partition
            )
        except (MessageSizeTooLargeError, RecordTooLargeError) as error:
            size = len(value or b"")
            raise BrokerError(
                f"a record of {size} bytes for {topic!r} is over the limit of "
                f"{self._max_record_bytes}; raise kafka.max_request_bytes, and the topic's limit",
                code="too_large",
                retryable=False,
            ) from error
        except KafkaError as error:
            failure = translate(error, f"write to {topic!r}")
            if essential:
                self._report(failure)
            raise failure from error
        delivery.add_done_callback(partial(self._ended, essential=essential))
        return BatchDelivery(delivery, 0)

    async def _send(self, topic: str, **record: Any) -> "asyncio.Future[Any]":
        """Send, however long the broker is away when the first record for a topic comes.

        The producer gives up when it has not been told in time of the topic's partitions. Of those
        it knows it waits for as long as it takes.
        """
        while True:
            try:
                sent: asyncio.Future[Any] = await self._producer.send(topic, **record)
            except UnknownTopicOrPartitionError:
                if self._existing is None:
                    raise
                log.warning("topic.unheard_of", topic=topic)
                await self.require_topic(topic, known_seconds=_ASK_AGAIN_SECONDS)
            else:
                return sent

    async def require_topic(self, topic: str, *, known_seconds: float = math.inf) -> None:
        """Return if the topic is there, or if nobody can say now.

        A producer would wait for one that is not there, and everything behind it. What was known
        longer ago than `known_seconds` is asked again.

        Raises:
            PipelineError: There is no such topic: what names it cannot be processed.
        """
        if self._existing is None or self._producer.client.cluster.partitions_for_topic(topic):
            return
        with suppress(BrokerError):
            if not await self._existing.has(topic, known_seconds=known_seconds):
                raise PipelineError(
                    f"there is no topic {topic!r}, to which this would go: a provider entry that "
                    "was taken away? `millrace topics` says which there are",
                    code="internal_record_invalid",
                )

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        try:
            return len(await self._producer.partitions_for(topic))
        except KafkaError as error:
            raise translate(error, f"read the partitions of {topic!r}") from error

    async def flush(self) -> None:
        """Wait until everything handed over has been delivered or has failed."""
        await self._producer.flush()

    def _ended(self, sent: "asyncio.Future[Any]", *, essential: bool) -> None:
        # Asked for in any case: whoever made the record may have given up waiting.
        error = None if sent.cancelled() else sent.exception()
        if error is not None and essential:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, MessageSizeTooLargeError):
            self._report(translate(error, "deliver a record"))

    def _report(self, failure: PipelineError) -> None:
        if self._on_failure is not None:
            self._on_failure(failure)


def translate(error: BaseException, doing: str) -> BrokerError:
    """Say what Kafka refused, in our words, for errors that come out of futures."""
    try:
        with kafka_errors(doing):
            raise error
    except BrokerError as translated:
        return translated
