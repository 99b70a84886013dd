"""Tokens of a few requests as they come: panes on a terminal, lines elsewhere."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from millrace.schemas.chunk import Chunk
from millrace.schemas.response import Response
from millrace.streams.cli.demo_lines import Line
from millrace.streams.cli.output import console, printable
from millrace.streams.cli.transcript import Transcript, ending
from millrace.streams.status import PipelineStatus, status_line

SHOWN = 4
_PANE_LINES = 3
_FRAMES_A_SECOND = 12


def pick(lines: Sequence[Line]) -> list[str]:
    """The ids of a few streamed requests, of different tasks, to be shown."""
    found: dict[str, str] = {}
    for line in lines:
        request = line.request
        if (
            request is not None
            and request.stream
            and request.request_id is not None
            and line.meant == "completed"
            and request.route.strategy not in {"ensemble", "parallel", "delegate"}
            and request.output.format == "text"
            and not line.misbehaves
        ):
            found.setdefault(request.task or "", request.request_id)
    return list(found.values())[:SHOWN]


@dataclass(slots=True)
class _Pane:
    """One answer."""

    heading: str
    text: str = ""
    source: tuple[int, str] | None = None
    ended: bool = False

    def __rich_console__(self, screen: Console, options: ConsoleOptions) -> RenderResult:
        """Show the heading, and the last lines of the answer."""
        yield Text(self.heading, style="bold", no_wrap=True, overflow="ellipsis")
        cursor = "" if self.ended else "▌"
        body = Text(" ".join(self.text.split()) + cursor, style="" if self.ended else "cyan")
        for line in body.wrap(screen, max(20, options.max_width - 2))[-_PANE_LINES:]:
            yield Text("  ") + line


@dataclass(slots=True)
class Panes:
    """Answers side by side, one below the other, and the status of the pipeline under them."""

    request_ids: Sequence[str]
    status: Callable[[], PipelineStatus]
    _panes: dict[str, _Pane] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._panes = {each: _Pane(heading=printable(each)) for each in self.request_ids}

    def chunk(self, chunk: Chunk) -> None:
        """Add to an answer; a new attempt begins it again."""
        pane = self._panes.get(chunk.request_id)
        if pane is None:
            return
        source = (chunk.attempt, chunk.invocation)
        if pane.source != source:
            pane.source, pane.text = source, ""
            pane.heading = printable(f"{chunk.request_id} · {chunk.provider}/{chunk.model}")
        pane.text += printable(chunk.delta)

    def response(self, response: Response) -> None:
        """Close an answer."""
        pane = self._panes.get(response.request_id)
        if pane is not None:
            pane.heading, pane.ended = ending(response), True

    def __rich__(self) -> Group:
        """All of it."""
        status = Text(status_line(self.status()), style="dim", no_wrap=True, overflow="ellipsis")
        return Group(*self._panes.values(), status)


class Lines:
    """Whole lines of the answers, each with its request's name before it."""

    def __init__(self, request_ids: Sequence[str]) -> None:
        self._wanted = frozenset(request_ids)
        self._transcript = Transcript(write=_write, inline=False)

    def chunk(self, chunk: Chunk) -> None:
        """Write what has become whole lines."""
        if chunk.request_id in self._wanted:
            self._transcript.chunk(chunk)

    def response(self, response: Response) -> None:
        """Write the rest, and how the request ended."""
        if response.request_id in self._wanted:
            self._transcript.response(response)


@contextmanager
def token_view(
    request_ids: Sequence[str], *, status: Callable[[], PipelineStatus], silent: bool
) -> Iterator[Panes | Lines]:
    """Show tokens while the block runs, unless `silent`."""
    screen = console()
    if silent or not screen.is_terminal:
        yield Lines(() if silent else request_ids)
        return
    panes = Panes(request_ids, status)
    with Live(panes, console=screen, refresh_per_second=_FRAMES_A_SECOND):
        yield panes


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
