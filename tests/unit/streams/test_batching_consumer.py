"""Runs of records as Faust's messages: what they hold, and what may be committed."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streams.batching_consumer import LONGEST_RUN, BatchingConsumer, Run, _InRuns

STREAM, CHANGELOG = "requests", "requests-changelog"


def record(topic: str, partition: int, offset: int) -> Any:
    """As aiokafka reads it."""
    return SimpleNamespace(
        topic=topic, partition=partition, offset=offset, timestamp=1_500 + offset, timestamp_type=0
    )


def consumer() -> BatchingConsumer:
    """A consumer that was never started: only its books are looked at."""
    made = BatchingConsumer.__new__(BatchingConsumer)
    made.app = SimpleNamespace(consumer_generation_id=7)
    made._acked = defaultdict(list)
    made._acked_index = defaultdict(set)
    return made


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(0, 3 * LONGEST_RUN), max_size=5))
def test_a_stream_comes_in_runs_that_leave_nothing_out(lengths: list[int]) -> None:
    """Each partition in its order, in runs of a bounded length; partitions take turns."""
    fetched = {
        TP(STREAM, number): [record(STREAM, number, offset) for offset in range(length)]
        for number, length in enumerate(lengths)
        if length
    }
    dealt: dict[TP, list[int]] = defaultdict(list)
    order: list[TP] = []
    for tp, run in _InRuns(lambda _: False).iterate(fetched):
        assert 0 < len(run) <= LONGEST_RUN
        dealt[tp] += [each.offset for each in run]
        order.append(tp)

    assert {tp: list(range(len(records))) for tp, records in fetched.items()} == dealt
    assert set(order[: len(fetched)]) == set(fetched)


def test_a_changelog_comes_record_by_record() -> None:
    """Faust itself reads those, one message for each key."""
    fetched = {TP(CHANGELOG, 0): [record(CHANGELOG, 0, offset) for offset in range(3)]}
    dealt = list(_InRuns(lambda tp: tp.topic == CHANGELOG).iterate(fetched))

    assert [(TP(CHANGELOG, 0), each) for each in fetched[TP(CHANGELOG, 0)]] == dealt


def test_a_run_stands_at_its_last_record() -> None:
    """So that what Faust remembers as read, and commits, is past all of them."""
    records = [record(STREAM, 2, offset) for offset in (4, 5, 9)]
    run = consumer()._to_message(TP(STREAM, 2), records)

    assert isinstance(run, Run)
    assert (run.topic, run.partition, run.offset) == (STREAM, 2, 9)
    assert (run.records, run.generation_id) == (records, 7)


def test_what_was_acknowledged_last_is_committed_once() -> None:
    """Acknowledgements come in order, whatever offsets lie between them."""
    at, tp = consumer(), TP(STREAM, 0)
    for offset in (4, 9, 30):
        at._acked[tp].append(offset)
        at._acked_index[tp].add(offset)

    assert at._new_offset(tp) == 31
    assert at._new_offset(tp) is None
    assert not at._acked_index[tp]
