"""The ledger: one line for each call, kept by the server itself.

It is the independent account that tests compare the pipeline's books with. A line is opened
when a call's request has been read and closed however the call ends. Nothing is dropped: lines
beyond the bound in memory rest in a temporary file.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Literal

import orjson

from millrace.schemas.record import Frozen

Ending = Literal["open", "complete", "cut", "hung", "client_gone", "error", "stopped"]
"""`open`: under way. `error`: an error status, or an error or a broken frame within the reply.
`hung`: fell silent on purpose, whether or not the client still waits. `stopped`: the simulator
was shut down."""


@dataclass(slots=True, kw_only=True)
class LedgerLine:
    """What became of one call. Times are seconds since the epoch."""

    id: str
    """The id that the reply carries, on the wires that have one."""
    sequence: int
    instance: str
    wire: str
    started_at: float
    ended_at: float | None = None
    model: str = ""
    stream: bool = False
    status: int | None = None
    """None until a status was sent."""
    input_tokens: int = 0
    """The whole prompt, cached parts included; 0 for a call that was refused."""
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    generated_tokens: int = 0
    """What a provider would charge for."""
    sent_tokens: int = 0
    """What was handed to the client's connection."""
    usage_reported: bool = False
    """The final counts were handed to the client."""
    input_reported: bool = False
    """The count of the input was, be it before the end."""
    ended: Ending = "open"
    fault: str | None = None
    """The misbehaviour that was ordered, if any."""
    label: str | None = None
    messages_sha256: str = ""


class LedgerFilter(Frozen):
    """Which lines to give; what is left out does not matter."""

    instance: str | None = None
    wire: str | None = None
    model: str | None = None
    stream: bool | None = None
    status: int | None = None
    ended: Ending | None = None
    fault: str | None = None
    label: str | None = None
    usage_reported: bool | None = None
    messages_sha256: str | None = None
    after: int = 0
    """Only lines with a greater sequence number."""

    def test(self) -> Callable[[LedgerLine], bool]:
        """A function that tells whether a line fits."""
        wanted = [(name, value) for name, value in self if name != "after" and value is not None]
        after = self.after

        def fits(line: LedgerLine) -> bool:
            return line.sequence > after and all(
                getattr(line, name) == value for name, value in wanted
            )

        return fits


@dataclass(slots=True, kw_only=True)
class Totals:
    """Sums over lines."""

    calls: int = 0
    open: int = 0
    completed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    generated_tokens: int = 0
    sent_tokens: int = 0

    def add(self, line: LedgerLine) -> None:
        """Count a line in."""
        self.calls += 1
        self.open += line.ended == "open"
        self.completed += line.ended == "complete"
        self.input_tokens += line.input_tokens
        self.cached_tokens += line.cached_tokens
        self.cache_write_tokens += line.cache_write_tokens
        self.generated_tokens += line.generated_tokens
        self.sent_tokens += line.sent_tokens


class Ledger:
    """Opens, closes and finds lines. For use on one event loop."""

    def __init__(
        self, *, now: Callable[[], float], memory_lines: int, path: Path | None = None
    ) -> None:
        self._now = now
        self._memory_lines = memory_lines
        self._journal: IO[bytes] | None = path.open("ab", buffering=0) if path else None
        self._spill: IO[bytes] | None = None
        self._closed: deque[LedgerLine] = deque()
        self._open: dict[int, LedgerLine] = {}
        self._sequence = 0
        self._changed: asyncio.Event | None = None
        self._stopping = False

    def open(self, *, instance: str, wire: str) -> LedgerLine:
        """Begin a line."""
        self._sequence += 1
        line = LedgerLine(
            id=f"sim{self._sequence:09d}",
            sequence=self._sequence,
            instance=instance,
            wire=wire,
            started_at=self._now(),
        )
        self._open[line.sequence] = line
        self._tell()
        return line

    def mark_hung(self, line: LedgerLine) -> None:
        """Note that a call will get nothing more, while its client still waits."""
        line.ended = "hung"
        self._tell()

    def close(self, line: LedgerLine) -> None:
        """End a line; from now on it does not change.

        A call that nobody brought to an end was left by its client, or ended by us.
        """
        line.ended_at = self._now()
        if line.ended == "open":
            line.ended = "stopped" if self._stopping else "client_gone"
        if self._open.pop(line.sequence, None) is None:
            return
        self._closed.append(line)
        if self._journal is not None:
            self._journal.write(orjson.dumps(line) + b"\n")
        if len(self._closed) > self._memory_lines:
            if self._spill is None:
                self._spill = TemporaryFile()  # noqa: SIM115 -- lives as long as the ledger
            self._spill.seek(0, SEEK_END)
            self._spill.write(orjson.dumps(self._closed.popleft()) + b"\n")
        self._tell()

    def lines(self, wanted: LedgerFilter | None = None) -> Iterator[LedgerLine]:
        """All lines that fit: the ended ones in the order of their ends, then the open ones.

        Reads as of now: use the iterator up before the event loop runs on.
        """
        fits = (wanted or LedgerFilter()).test()
        if self._spill is not None:
            self._spill.seek(0)
            for raw in self._spill:
                line = LedgerLine(**orjson.loads(raw))
                if fits(line):
                    yield line
        yield from filter(fits, self._closed)
        yield from filter(fits, self._open.values())

    def totals(self, wanted: LedgerFilter | None = None) -> Totals:
        """Sum the lines that fit."""
        totals = Totals()
        for line in self.lines(wanted):
            totals.add(line)
        return totals

    def by_instance(self, wanted: LedgerFilter | None = None) -> dict[str, Totals]:
        """Sum the lines that fit, for each instance."""
        totals: dict[str, Totals] = {}
        for line in self.lines(wanted):
            totals.setdefault(line.instance, Totals()).add(line)
        return totals

    def clear(self) -> None:
        """Forget all ended lines, and drop open ones once they end; a journal file stays."""
        self._closed.clear()
        self._open.clear()
        self._drop_spill()
        self._tell()

    async def until(self, condition: Callable[["Ledger"], bool]) -> None:
        """Return as soon as the condition holds; it is looked at after each change."""
        while not condition(self):
            if self._changed is None:
                self._changed = asyncio.Event()
            await self._changed.wait()

    def stop(self) -> None:
        """Note that calls are broken off from now on because the simulator stops."""
        self._stopping = True

    def shut(self) -> None:
        """Close the files; lines in memory can still be read, those of the temporary file not."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._drop_spill()

    def _drop_spill(self) -> None:
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
