"""The offsets that may be committed while records finish out of order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from millrace.streams.finished_ahead import Run, covers, decode
from millrace.streams.offsets import Commit, OffsetTracker, Partition

PARTITIONS = (Partition("t", 0), Partition("t", 1))
ONE = PARTITIONS[0]


class TrackedPartitions(RuleBasedStateMachine):
    """Any interleaving of reads, ends, commits, and partitions that come and go.

    The model is plain: which offsets were read since the partition came, and which of them ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.read: dict[Partition, dict[int, bool]] = {each: {} for each in PARTITIONS}
        self.next: dict[Partition, int] = dict.fromkeys(PARTITIONS, 0)
        self.on_broker: dict[Partition, int] = dict.fromkeys(PARTITIONS, 0)

    @rule(partition=st.sampled_from(PARTITIONS), gap=st.integers(0, 3))
    def start(self, partition: Partition, gap: int) -> None:
        offset = self.next[partition] + gap
        self.tracker.start(partition, offset)
        self.read[partition][offset] = False
        self.next[partition] = offset + 1

    @rule(partition=st.sampled_from(PARTITIONS), pick=st.integers(0, 50))
    def finish(self, partition: Partition, pick: int) -> None:
        known = list(self.read[partition])
        offset = known[pick % len(known)] if known else pick
        self.tracker.finish(partition, offset)
        if known:
            self.read[partition][offset] = True

    @rule(partition=st.sampled_from(PARTITIONS), offset=st.integers(-5, 500))
    def finish_what_was_not_read(self, partition: Partition, offset: int) -> None:
        if offset not in self.read[partition]:
            self.tracker.finish(partition, offset)

    @rule()
    def commit(self) -> None:
        for partition, commit in self.tracker.commits().items():
            self.on_broker[partition] = commit.offset
            self.tracker.committed(partition, commit)
        assert self.tracker.commits() == {}

    @rule(partition=st.sampled_from(PARTITIONS))
    def rebalance(self, partition: Partition) -> None:
        """The partition goes and comes back: it is read again from the committed offset."""
        self.tracker.forget(partition)
        self.read[partition] = {}
        self.next[partition] = self.on_broker[partition]

    @precondition(lambda self: any(self.next.values()))
    @rule(partition=st.sampled_from(PARTITIONS), back=st.integers(1, 20))
    def seek_back(self, partition: Partition, back: int) -> None:
        self.tracker.forget(partition)
        self.read[partition] = {}
        self.next[partition] = max(0, self.next[partition] - back)

    @invariant()
    def never_past_unfinished_work(self) -> None:
        for partition, (offset, metadata) in self.tracker.commits().items():
            ahead = decode(offset, metadata)
            for at, done in self.read[partition].items():
                assert done or offset <= at
                assert covers(ahead, at) == (done and at >= offset)

    @invariant()
    def all_that_is_contiguous_may_be_committed(self) -> None:
        for partition in PARTITIONS:
            commit = self.tracker.commits().get(partition)
            if commit is not None:
                records = self.read[partition]
                unfinished = [at for at, done in records.items() if not done]
                assert commit.offset == (unfinished[0] if unfinished else max(records) + 1)

    @invariant()
    def unfinished_are_counted(self) -> None:
        for partition in PARTITIONS:
            open_records = sum(not done for done in self.read[partition].values())
            assert self.tracker.unfinished(partition) == open_records


TestTrackedPartitions = TrackedPartitions.TestCase
TestTrackedPartitions.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(offsets=st.sets(st.integers(0, 200), min_size=1, max_size=30), order=st.randoms())
@settings(max_examples=60, deadline=None)
def test_everything_finished_means_the_position_after_the_last(
    offsets: set[int], order: "st.random.Random"
) -> None:
    """Gaps in the offsets hold nothing up."""
    tracker = OffsetTracker()
    ascending = sorted(offsets)
    for offset in ascending:
        tracker.start(ONE, offset)
    shuffled = list(ascending)
    order.shuffle(shuffled)

    for offset in shuffled:
        tracker.finish(ONE, offset)

    assert tracker.commits() == {ONE: Commit(ascending[-1] + 1, "")}
    assert tracker.unfinished(ONE) == 0


def test_a_slow_first_record_holds_the_commit() -> None:
    """The others are only noted while the first is under way; once it ends, all are committed."""
    tracker = OffsetTracker()
    for offset in range(5):
        tracker.start(ONE, offset)
    for offset in range(1, 5):
        tracker.finish(ONE, offset)
    (held,) = tracker.commits().values()
    assert (held.offset, decode(0, held.metadata)) == (0, (Run(1, 5),))

    tracker.finish(ONE, 0)

    assert tracker.commits() == {ONE: Commit(5, "")}


def test_a_repeated_finish_changes_nothing() -> None:
    """The second end of a record does not stand for its neighbour's."""
    tracker = OffsetTracker()
    tracker.start(ONE, 0)
    tracker.start(ONE, 1)
    tracker.finish(ONE, 0)
    tracker.finish(ONE, 0)

    assert tracker.commits() == {ONE: Commit(1, "")}


@pytest.mark.parametrize("again", [0, 3])
def test_going_back_without_forgetting_is_an_error(again: int) -> None:
    """A consumer that went back must say so, finished or not."""
    tracker = OffsetTracker()
    for offset in range(4):
        tracker.start(ONE, offset)
        tracker.finish(ONE, offset)

    with pytest.raises(ValueError, match=f"offset {again} of"):
        tracker.start(ONE, again)


def test_a_commit_that_failed_is_offered_again() -> None:
    """Only what the broker holds is taken off."""
    tracker = OffsetTracker()
    tracker.start(ONE, 7)
    tracker.finish(ONE, 7)

    assert tracker.commits() == {ONE: Commit(8, "")}
    assert tracker.commits() == {ONE: Commit(8, "")}
