"""Faust's Kafka consumer, that hands over runs of records in place of single ones.

Whatever Faust does with a message (a message object, a decoded event, a queue, a stream, an
acknowledgement: about 100 µs of CPU together) it does here once for the records of a partition that
came in one fetch. Changelogs, which Faust reads itself, come record by record.

An acknowledged run stands for all of its records, so offsets are not consecutive any more. They
need not be: `OrderedAcks` acknowledges in order, and the last acknowledged one is the bound.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import faust
from faust.transport.drivers.aiokafka import Transport
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types.tuples import ConsumerMessage

from millrace.streams.eager_consumer import EagerConsumer
from millrace.streams.kafka_settings import IsolationLevel

LONGEST_RUN = 40
"""Records; so many that Faust's own work on a run hardly counts for each."""


class Run(ConsumerMessage):  # type: ignore[misc]
    """Records of one partition in order, as one of Faust's messages: at the last one's offset."""

    __slots__ = ("records",)

    records: Sequence[Any]


class BatchingConsumer(EagerConsumer):
    """A consumer whose streams get a `Run` for each message."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scheduler = _InRuns(self._is_changelog_tp)

    def _to_message(self, tp: Any, record: Any) -> Any:
        if not isinstance(record, list):
            return super()._to_message(tp, record)
        last = record[-1]
        run = Run(
            last.topic,
            last.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            b"",
            b"",
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )
        run.records = record
        return run

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Nothing: offsets between runs are those of their records."""

    def _new_offset(self, tp: Any) -> int | None:
        """The offset to commit: acknowledged in order, nothing before the last one is open."""
        acked = self._acked[tp]
        if not acked:
            return None
        last = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return int(last) + 1


class _InRuns(DefaultSchedulingStrategy):  # type: ignore[misc]
    """Deals out the records of changelogs one by one, those of streams in runs, in turn."""

    def __init__(self, is_changelog: Callable[[Any], bool]) -> None:
        self._is_changelog = is_changelog

    def iterate(self, records: Mapping[Any, Sequence[Any]]) -> Iterator[tuple[Any, Any]]:
        """Go over the records of a fetch."""
        return super().iterate(  # type: ignore[no-any-return]
            {
                tp: fetched if self._is_changelog(tp) else _cut(fetched)
                for tp, fetched in records.items()
            }
        )


def _cut(records: Sequence[Any]) -> list[list[Any]]:
    return [
        list(records[start : start + LONGEST_RUN]) for start in range(0, len(records), LONGEST_RUN)
    ]


class BatchingTransport(Transport):  # type: ignore[misc]
    """The transport that makes such consumers."""

    Consumer = BatchingConsumer
    isolation_level: IsolationLevel = "read_uncommitted"


def consume_in_runs(
    app: faust.App, *, isolation_level: IsolationLevel = "read_uncommitted"
) -> None:
    """Let this app, which has not started, read so."""
    app.transport = BatchingTransport(app.conf.broker_consumer, app)
    app.transport.isolation_level = isolation_level
