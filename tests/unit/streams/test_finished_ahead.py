"""What a commit says beside its offset: which records behind an unfinished one are done."""

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streams.finished_ahead import MAX_CHARACTERS, Run, covers, decode, encode, runs_of
from millrace.streams.offsets import Commit, OffsetTracker, Partition

ONE = Partition("t", 0)

records = st.dictionaries(st.integers(0, 400), st.booleans(), min_size=1, max_size=120)


def _finished(tracker: OffsetTracker, offsets: list[int]) -> set[int]:
    return {each for each in offsets if tracker.was_finished(ONE, each)}


@given(known=records)
@settings(max_examples=150, deadline=None)
def test_a_commit_says_exactly_what_is_done_beyond_it(known: dict[int, bool]) -> None:
    """Whoever resumes it knows each finished record, and takes no other for finished."""
    tracker = OffsetTracker()
    for offset in sorted(known):
        tracker.start(ONE, offset)
    for offset, finished in known.items():
        if finished:
            tracker.finish(ONE, offset)
    commits = tracker.commits()
    successor = OffsetTracker()
    for partition, commit in commits.items():
        successor.resume(partition, commit)

    at = commits[ONE].offset if ONE in commits else 0
    beyond = [offset for offset in sorted(known) if offset >= at]
    assert _finished(successor, beyond) == {each for each in beyond if known[each]}
    assert all(known[each] for each in known if each < at)


@given(known=records, read=st.integers(0, 120))
@settings(max_examples=100, deadline=None)
def test_a_successor_that_dies_early_passes_on_what_it_was_told(
    known: dict[int, bool], read: int
) -> None:
    """It had read a part of it again; its own commit still tells of the rest."""
    tracker = OffsetTracker()
    for offset in sorted(known):
        tracker.start(ONE, offset)
    for offset, finished in known.items():
        if finished:
            tracker.finish(ONE, offset)
    first = tracker.commits().get(ONE)
    if first is None:
        return
    second = OffsetTracker()
    second.resume(ONE, first)
    beyond = [offset for offset in sorted(known) if offset >= first.offset]
    for offset in beyond[:read]:
        second.start(ONE, offset)
        if second.was_finished(ONE, offset):
            second.finish(ONE, offset)

    third = OffsetTracker()
    third.resume(ONE, second.commits().get(ONE, first))

    assert _finished(third, beyond) == {each for each in beyond if known[each]}


def test_a_commit_is_offered_anew_when_only_what_is_beyond_has_changed() -> None:
    """And once the broker holds it, no more."""
    tracker = OffsetTracker()
    for offset in range(4):
        tracker.start(ONE, offset)
    assert tracker.commits() == {}
    tracker.finish(ONE, 2)
    first = tracker.commits()[ONE]
    assert (first.offset, decode(0, first.metadata)) == (0, (Run(2, 3),))
    tracker.committed(ONE, first)
    assert tracker.commits() == {}

    tracker.finish(ONE, 3)

    assert decode(0, tracker.commits()[ONE].metadata) == (Run(2, 4),)


def test_a_log_that_was_made_anew_is_read_from_its_beginning() -> None:
    """What was done in the old one says nothing of records with the same offsets."""
    tracker = OffsetTracker()
    tracker.resume(ONE, Commit(5, encode(5, [Run(7, 9)])))
    tracker.start(ONE, 0)

    assert not tracker.was_finished(ONE, 7)


def test_what_does_not_fit_is_left_out_and_the_rest_is_right() -> None:
    """A broker would refuse the whole commit for its metadata."""
    runs = [Run(each, each + 1) for each in range(1, 20_000, 2)]

    text = encode(0, runs)

    assert len(text) <= MAX_CHARACTERS
    kept = decode(0, text)
    assert 1000 < len(kept) < len(runs)
    assert list(kept) == runs[: len(kept)]


@given(text=st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: "1:" + raw.hex()))
@settings(max_examples=200, deadline=None)
def test_what_another_program_committed_is_no_reason_to_stop(text: str) -> None:
    """Metadata is free text: whatever stands there is read as runs or as nothing."""
    runs = decode(10, text)

    assert all(10 <= run.first <= run.past for run in runs)


def test_gaps_in_the_offsets_do_not_end_a_run() -> None:
    """Compaction and transactions leave them."""
    assert list(runs_of([(1, True), (5, True), (6, False), (9, True)])) == [Run(1, 6), Run(9, 10)]
    assert covers((Run(1, 6), Run(9, 10)), 3)
    assert not covers((Run(1, 6), Run(9, 10)), 6)
    assert not covers((), 3)
