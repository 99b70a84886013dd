"""Adding records to the batches that an aiokafka producer is filling.

`AIOKafkaProducer.send` takes 7 µs of CPU a record, most of it for what is the same each time: the
topic's partitions as new sets, a future of its own, log lines that are not written. What remains
when a topic is known and its batch has room takes one.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from millrace.client.key_hash import positive_hash
from millrace.streams.deliveries import BatchDelivery

_size = DefaultRecordBatchBuilder.estimate_size_in_bytes


class Batches:
    """The short way to a producer's batches, for records that need not wait.

    Knows the inside of aiokafka 0.14, and leaves to `send` whatever is not plain: topics not heard
    of yet, records without key and partition, those that are too large, full batches.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        *,
        max_record_bytes: int,
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self._accumulator = producer._message_accumulator  # noqa: SLF001
        self._cluster = producer.client.cluster
        self._max_record_bytes = max_record_bytes
        self._on_failed = on_failed
        self._places: dict[str, tuple[Any, list[_Place]]] = {}

    def append(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        headers: list[tuple[str, bytes | None]],
        partition: int | None,
        essential: bool,
    ) -> BatchDelivery | None:
        """Add a record; None, and nothing done, if only `send` can.

        When a batch fails that has an `essential` record, `on_failed` is called, once.
        """
        accumulator = self._accumulator
        place = self._place(topic, key, partition)
        if (
            place is None
            or accumulator._closed  # noqa: SLF001
            or accumulator._exception is not None  # noqa: SLF001
            or _size(key, value, headers) > self._max_record_bytes
        ):
            return None
        pending = accumulator._batches.get(place.at)  # noqa: SLF001
        if pending:
            batch = pending[-1]
        else:
            batch = accumulator._append_batch(  # noqa: SLF001
                accumulator.create_builder(), place.at
            )
        # As its own `append`, which would ask for serializers and a time stamp besides.
        builder = batch._builder  # noqa: SLF001
        if builder._closed:  # noqa: SLF001
            return None
        index = builder._relative_offset  # noqa: SLF001
        if builder._builder.append(index, None, key, value, headers) is None:  # noqa: SLF001
            builder.close()
            return None
        builder._relative_offset = index + 1  # noqa: SLF001
        future: asyncio.Future[Any] = batch.future
        watched = place.filling
        if watched is None or watched.future is not future:
            watched = place.filling = _Watched(future)
            future.add_done_callback(lambda _: self._ended(place, watched))
        watched.essential |= essential
        return BatchDelivery(future, index)

    def _place(self, topic: str, key: bytes | None, partition: int | None) -> "_Place | None":
        known = self._cluster._partitions.get(topic)  # noqa: SLF001
        if not known:
            return None
        seen, places = self._places.get(topic, (None, []))
        if seen is not known:
            before = {place.at.partition: place for place in places}
            places = [
                before.get(number) or _Place(TopicPartition(topic, number))
                for number in sorted(known)
            ]
            self._places[topic] = (known, places)
        if partition is not None:
            return places[partition] if 0 <= partition < len(places) else None
        return None if key is None else places[positive_hash(key) % len(places)]

    def _ended(self, place: "_Place", watched: "_Watched") -> None:
        if place.filling is watched:
            place.filling = None
        future = watched.future
        error = None if future.cancelled() else future.exception()
        if error is not None and watched.essential:
            self._on_failed(error)


class _Place:
    """A partition, and its newest batch."""

    __slots__ = ("at", "filling")

    def __init__(self, at: TopicPartition) -> None:
        self.at = at
        self.filling: _Watched | None = None


class _Watched:
    """A batch whose end we hear of."""

    __slots__ = ("essential", "future")

    def __init__(self, future: "asyncio.Future[Any]") -> None:
        self.future = future
        self.essential = False
