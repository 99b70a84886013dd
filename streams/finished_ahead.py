"""What is done already after the committed offset, kept in the commit itself.

Calls end in any order, and a commit holds one offset: without more, whoever takes a partition over
after a crash would pay again for every call that had ended behind a slow one. A commit's metadata
has room for the runs of finished offsets. They only ever save work: where they do not fit, or
cannot be read, calls are made again.
"""

import base64
import binascii
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_VERSION = "1:"
MAX_CHARACTERS = 3_800
"""Brokers take 4,096 bytes (offset.metadata.max.bytes)."""
_SEVEN_BITS = 0x7F
_MORE = 0x80


class Run(NamedTuple):
    """Offsets that are all done: from `first` to the one before `past`."""

    first: int
    past: int


def runs_of(records: Iterable[tuple[int, bool]]) -> Iterator[Run]:
    """The runs of finished offsets among records in ascending order; gaps do not end a run."""
    first: int | None = None
    last = 0
    for offset, finished in records:
        if finished:
            first = offset if first is None else first
            last = offset
        elif first is not None:
            yield Run(first, last + 1)
            first = None
    if first is not None:
        yield Run(first, last + 1)


def encode(position: int, runs: Iterable[Run]) -> str:
    """Write runs above `position` as text, as many as fit; empty when there are none."""
    whole = bytearray()
    at = position
    for run in runs:
        piece = _varint(run.first - at) + _varint(run.past - run.first)
        if (len(whole) + len(piece)) * 4 // 3 + 4 > MAX_CHARACTERS:
            break
        whole += piece
        at = run.past
    return _VERSION + base64.b64encode(whole).decode("ascii") if whole else ""


def decode(position: int, text: str) -> tuple[Run, ...]:
    """Read what `encode` wrote at that position; nothing where the text is anything else."""
    if not text.startswith(_VERSION):
        return ()
    try:
        whole = base64.b64decode(text.removeprefix(_VERSION), validate=True)
    except (binascii.Error, ValueError):
        return ()
    numbers = _numbers(whole)
    if numbers is None or len(numbers) % 2:
        return ()
    runs = []
    at = position
    for skip, length in zip(numbers[::2], numbers[1::2], strict=True):
        run = Run(at + skip, at + skip + length)
        runs.append(run)
        at = run.past
    return tuple(runs)


def covers(runs: tuple[Run, ...], offset: int) -> bool:
    """Whether an offset is in one of these ascending runs."""
    index = bisect_right(runs, offset, key=lambda run: run.first) - 1
    return index >= 0 and offset < runs[index].past


def _varint(number: int) -> bytes:
    whole = bytearray()
    while number > _SEVEN_BITS:
        whole.append(number & _SEVEN_BITS | _MORE)
        number >>= 7
    whole.append(number)
    return bytes(whole)


def _numbers(whole: bytes) -> list[int] | None:
    """None where the last number is not whole."""
    numbers = []
    number = shift = 0
    for byte in whole:
        number |= (byte & _SEVEN_BITS) << shift
        shift += 7
        if not byte & _MORE:
            numbers.append(number)
            number = shift = 0
    return numbers if not shift else None
