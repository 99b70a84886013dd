"""Writing to Kafka so that nobody need wonder whether a record arrived."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordTooLargeError,
)
from aiokafka.partitioner import DefaultPartitioner

from millrace.schemas.errors import BrokerError, PipelineError
from millrace.schemas.record import Record
from millrace.streams.kafka_errors import kafka_errors
from millrace.streams.kafka_settings import KafkaSettings

Delivery = Awaitable[Any]
"""Ends when the broker has acknowledged the record; raises `BrokerError` when it never will."""

PRODUCE_TIMEOUT_MS = 120_000
"""How long a partition may be without a leader before a batch fails. A broker that does not
answer is asked again for ever: an idempotent producer does not give a batch up."""

BATCH_BYTES = 256 * 1024

_KEYS_HASHED = 16_384


class Publisher:
    """An idempotent producer: acknowledged by all replicas, in order, without duplicates.

    `publish` returns once the record is in the producer's bounded buffer, with a future for its
    delivery: await that before committing whatever the record was made from. A delivery that
    fails for any reason but the record's own size calls `on_failure` once: the producer cannot
    go on then, and neither should the process.
    """

    def __init__(
        self,
        *,
        settings: KafkaSettings,
        linger_ms: int | None = None,
        on_failure: Callable[[PipelineError], None] | None = None,
    ) -> None:
        self._producer = AIOKafkaProducer(
            **{
                **settings.producer_kwargs(),
                "max_batch_size": BATCH_BYTES,
                "partitioner": _Partitioner(),
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
        self._max_record_bytes = settings.max_record_bytes

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
        headers: Iterable[tuple[str, bytes]] = (),
        partition: int | None = None,
        essential: bool = True,
    ) -> "asyncio.Future[Any]":
        """Hand a record to the producer; the future ends with its delivery.

        One that is not `essential` fails alone: `on_failure` does not hear of it.

        Raises:
            BrokerError: The record can never be sent, or the producer has failed.
        """
        return await self.publish_bytes(
            topic,
            record.encode(),
            key=key.encode() if isinstance(key, str) else key,
            headers=[*record.kafka_headers(), *headers],
            partition=partition,
            essential=essential,
        )

    async def publish_bytes(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: Iterable[tuple[str, bytes]] = (),
        partition: int | None = None,
        essential: bool = True,
    ) -> "asyncio.Future[Any]":
        """Hand raw bytes to the producer; the future ends with their delivery."""
        try:
            delivery: asyncio.Future[Any] = await self._producer.send(
                topic, value=value, key=key, headers=list(headers), partition=partition
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
        delivery.add_done_callback(self._delivered if essential else _observe)
        return delivery

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        try:
            return len(await self._producer.partitions_for(topic))
        except KafkaError as error:
            raise translate(error, f"read the partitions of {topic!r}") from error

    async def flush(self) -> None:
        """Wait until everything handed over has been delivered or has failed."""
        await self._producer.flush()

    def _delivered(self, delivery: "asyncio.Future[Any]") -> None:
        if delivery.cancelled():
            return
        error = delivery.exception()
        if error is not None and not isinstance(error, MessageSizeTooLargeError):
            self._report(translate(error, "deliver a record"))

    def _report(self, failure: PipelineError) -> None:
        if self._on_failure is not None:
            self._on_failure(failure)


def _observe(delivery: "asyncio.Future[Any]") -> None:
    """Whoever made the record hears of its failure, or has given up waiting."""
    if not delivery.cancelled():
        delivery.exception()


class _Partitioner(DefaultPartitioner):  # type: ignore[misc]
    """Kafka's own choice of a partition, remembered for the keys of late.

    A request's key comes back with each of its records, and the hash is computed in Python.
    """

    def __init__(self) -> None:
        self._choose = lru_cache(maxsize=_KEYS_HASHED)(super().__call__)

    def __call__(
        self, key: bytes | None, all_partitions: Sequence[int], available: Sequence[int]
    ) -> int:
        if key is None:
            return int(super().__call__(key, all_partitions, available))
        return int(self._choose(key, tuple(all_partitions), ()))


def translate(error: BaseException, doing: str) -> BrokerError:
    """Say what Kafka refused, in our words, for errors that come out of futures."""
    try:
        with kafka_errors(doing):
            raise error
    except BrokerError as translated:
        return translated
