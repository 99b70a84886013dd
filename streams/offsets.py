"""Which offsets of a partition may be committed while records finish out of order.

A committed offset is a promise that everything before it is done, so it may never pass a
record that is still being worked on, whichever record finishes first.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from millrace.streams.finished_ahead import Run, covers, decode, encode, runs_of


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Commit(NamedTuple):
    """What to commit for a partition."""

    offset: int
    metadata: str
    """What is done beyond the offset."""


@dataclass(slots=True)
class _Progress:
    records: OrderedDict[int, bool] = field(default_factory=OrderedDict)
    """Offsets from the first unfinished one on, in order; True once finished."""
    position: int | None = None
    """The next offset to read after a restart; None before anything has finished."""
    committed: int | None = None
    noted: str = ""
    """The metadata that the broker holds."""
    before: tuple[Run, ...] = ()
    """What others had finished beyond the offset that reading began at."""

    def commit(self) -> Commit | None:
        """The offset of the first record that is not done, and what is done beyond it.

        None before there is anything to say.
        """
        if self.position is None and not any(self.records.values()):
            return None
        at = next(iter(self.records), self.position or 0)
        past = next(reversed(self.records), at - 1) + 1
        unread = (Run(max(run.first, past), run.past) for run in self.before if run.past > past)
        return Commit(at, encode(at, chain(runs_of(self.records.items()), unread)))


class OffsetTracker:
    """Contiguous progress of any number of partitions.

    Offsets of a partition must start in ascending order; they need not be consecutive
    (compaction and transactions leave gaps). A record finishes at most once: repeated and
    unknown finishes change nothing, so a record of a partition that was taken away, or read
    again, does no harm.
    """

    def __init__(self) -> None:
        self._partitions: dict[Partition, _Progress] = {}

    def start(self, partition: Partition, offset: int) -> None:
        """Note that a record was read and is being worked on.

        Raises:
            ValueError: The offset is not above those read before; the consumer went back
                without `forget`.
        """
        progress = self._partitions.get(partition)
        if progress is None:
            progress = self._partitions[partition] = _Progress()
        last = next(reversed(progress.records)) if progress.records else None
        floor = last if last is not None else (progress.position or 0) - 1
        if offset <= floor:
            raise ValueError(f"offset {offset} of {partition} read after {floor}")
        if progress.before and progress.committed is not None and offset < progress.committed:
            # The log was cut or made anew: what was done there says nothing of these records.
            progress.before = ()
        progress.records[offset] = False

    def finish(self, partition: Partition, offset: int) -> None:
        """Note that everything made from a record is safe."""
        progress = self._partitions.get(partition)
        if progress is None or progress.records.get(offset) is not False:
            return
        progress.records[offset] = True
        records = progress.records
        while records:
            first, finished = next(iter(records.items()))
            if not finished:
                break
            records.popitem(last=False)
            progress.position = first + 1

    def commits(self) -> dict[Partition, Commit]:
        """What to commit now: where the broker does not hold it already."""
        wanted = {}
        for partition, progress in self._partitions.items():
            commit = progress.commit()
            if commit is not None and commit != (progress.committed, progress.noted):
                wanted[partition] = commit
        return wanted

    def committed(self, partition: Partition, commit: Commit) -> None:
        """Note that the broker holds this one of `commits`."""
        progress = self._partitions.get(partition)
        if progress is not None:
            progress.committed = max(commit.offset, progress.committed or 0)
            progress.noted = commit.metadata

    def resume(self, partition: Partition, commit: Commit) -> None:
        """Go on from a commit that somebody made for this partition."""
        before = decode(commit.offset, commit.metadata)
        self._partitions[partition] = _Progress(
            committed=commit.offset, noted=commit.metadata, before=before
        )

    def was_finished(self, partition: Partition, offset: int) -> bool:
        """Whether the commit that was resumed says that this record is done."""
        progress = self._partitions.get(partition)
        return progress is not None and bool(progress.before) and covers(progress.before, offset)

    def unfinished(self, partition: Partition) -> int:
        """How many records of the partition are being worked on."""
        progress = self._partitions.get(partition)
        return sum(not done for done in progress.records.values()) if progress else 0

    def forget(self, partition: Partition) -> None:
        """Drop a partition: it was taken away, or will be read from another place."""
        self._partitions.pop(partition, None)
