"""`millrace demo`: everything at work on this machine, with simulated models."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from millrace.providers.simulator.server import Simulator
from millrace.schemas.errors import ConfigurationError
from millrace.streams.cli.demo_cast import ROUTES, simulated_entries, simulator_settings
from millrace.streams.cli.demo_lines import Line, read_lines
from millrace.streams.cli.demo_live import (
    ATTEMPTS,
    LiveProviders,
    find_live,
    hosts,
    live_lines,
)
from millrace.streams.cli.demo_pages import print_next
from millrace.streams.cli.demo_stage import set_stage, stage_settings
from millrace.streams.cli.demo_tour import Outcome, Tour
from millrace.streams.cli.exits import FAILED, INTERRUPTED
from millrace.streams.cli.options import AsJson
from millrace.streams.cli.output import print_json, say
from millrace.streams.cli.signals import stop_on_signals

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "requests.jsonl"
TIMEOUT_SECONDS = 60.0
_LOG_LEVEL = "error"
"""What fails here on purpose is shown in the summary, and needs no line in a log."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    epilog="Exit codes: 0 everything ended as it was meant to; 1 something did not; "
    "2 wrong usage, or nobody agreed to spend."
)
def demo(
    *,
    requests: Annotated[
        Path, typer.Option(metavar="FILE", help="Send these lines.", show_default=False)
    ] = EXAMPLES,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the simulator's own account, one call a line."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the real providers whose keys are set, and Ollama.")
    ] = False,
    max_cost: Annotated[
        str, typer.Option(metavar="USD", help="With --live: spend at most.")
    ] = "0.05",
    yes: Annotated[bool, typer.Option("--yes", help="With --live: spend without asking.")] = False,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Wait so long for the answers.")
    ] = TIMEOUT_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Run the whole pipeline with embedded parts, and show what becomes of example requests.

    Broker, ClickHouse, model server and pipeline start here, in a temporary folder, and are gone
    afterwards. The models are simulated, and nothing is spent, unless --live is given.
    With --json, prints one document.

    Examples:
      millrace demo
      millrace demo --json | jq .books
      millrace demo --requests mine.jsonl --ledger calls.jsonl
      millrace demo --live --max-cost 0.02
    """
    began = time.monotonic()
    lines = read_lines(_content(requests))
    found = asyncio.run(find_live(os.environ))
    wish = _Wish(
        lines=_live(lines, found, max_cost=max_cost, yes=yes) if live else lines,
        source=requests.name,
        found=found,
        live=live,
        ledger=None if ledger is None else _emptied(ledger),
        timeout_seconds=timeout,
        as_json=as_json,
    )
    outcome = asyncio.run(_run(wish))
    if outcome is None:
        raise typer.Exit(INTERRUPTED)
    _close(outcome, live=live, as_json=as_json, seconds=time.monotonic() - began)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What was asked for on the command line."""

    lines: Sequence[Line]
    source: str
    """Where the lines are from."""
    found: LiveProviders
    live: bool
    ledger: Path | None
    timeout_seconds: float
    as_json: bool


def _content(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigurationError(
            f"{str(file)!r} cannot be read: {error.strerror}; name a file with --requests"
        ) from error


def _emptied(file: Path) -> Path:
    """The file's full path, as the working directory changes meanwhile."""
    try:
        file.write_bytes(b"")
    except OSError as error:
        raise ConfigurationError(f"{str(file)!r} cannot be written: {error.strerror}") from error
    return file.resolve()


def _introduce(found: LiveProviders) -> None:
    say("Millrace demo: the whole pipeline on this machine, with simulated models.")
    if found.entries:
        say(f"Found {found.names}; left alone. `{program()} demo --live` would ask them.")


def _live(
    lines: Sequence[Line], found: LiveProviders, *, max_cost: str, yes: bool
) -> Sequence[Line]:
    """The lines for real providers, once somebody has agreed to spend."""
    if not found.entries:
        raise ConfigurationError(
            "--live finds no provider: set OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, "
            "OPENROUTER_API_KEY or OLLAMA_BASE_URL, or start Ollama"
        )
    try:
        budget = Decimal(max_cost)
    except ArithmeticError as error:
        raise ConfigurationError(f"--max-cost {max_cost!r} is no amount of dollars") from error
    local = any(entry["hardware"] != "cloud" for entry in found.entries.values())
    chosen = live_lines(lines, budget_usd=budget, local=local)
    if not chosen:
        raise ConfigurationError("the file holds no plain request that could be asked for real")
    question = f"Send {len(chosen)} requests to {hosts(found)}, for at most ${budget}"
    if found.paid and not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigurationError(f"{question}? Agree with --yes")
        if not typer.confirm(f"{question}?", default=False, err=True):
            raise ConfigurationError("nothing was sent, as nobody agreed to spend")
    else:
        say(f"{question}.", err=True)
    return chosen


async def _run(wish: _Wish) -> Outcome | None:
    """Run the demo; None when it was stopped by a signal."""
    interrupted = asyncio.Event()
    with stop_on_signals(interrupted, on_first=lambda: say("Clearing away.", err=True)):
        if not wish.live and not wish.as_json:
            _introduce(wish.found)
        show = asyncio.create_task(_show(wish))
        signal = asyncio.create_task(interrupted.wait())
        await asyncio.wait({show, signal}, return_when=asyncio.FIRST_COMPLETED)
        signal.cancel()
        if interrupted.is_set():
            show.cancel()
            await asyncio.wait({show})
            return None
        return show.result()


async def _show(wish: _Wish) -> Outcome:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="millrace-demo-") as folder:
        async with _models(wish) as (providers, simulator):
            settings = stage_settings(
                Path(folder),
                providers=providers,
                routes=ROUTES if simulator else {"default": {"max_candidates": ATTEMPTS}},
                log_level=_LOG_LEVEL,
            )
            # Keys and proxies are of use to real providers only.
            environ = os.environ if wish.live else {}
            async with set_stage(settings, environ=environ) as stage:
                if not wish.as_json:
                    say(
                        f"Up after {time.monotonic() - began:.1f} s: embedded broker, embedded "
                        f"ClickHouse, {'simulator, ' if simulator else ''}router, caller, "
                        "validator and sink."
                    )
                tour = Tour(stage=stage, lines=wish.lines, simulator=simulator, silent=wish.as_json)
                return await tour.take(source=wish.source, timeout_seconds=wish.timeout_seconds)


@asynccontextmanager
async def _models(
    wish: _Wish,
) -> AsyncIterator[tuple[Mapping[str, object], Simulator | None]]:
    """The provider entries, and the simulator behind them unless they are real."""
    if wish.live:
        yield wish.found.entries, None
        return
    settings = simulator_settings().model_copy(update={"ledger_path": wish.ledger})
    async with Simulator(settings) as simulator:
        yield simulated_entries(simulator), simulator


def _close(outcome: Outcome, *, live: bool, as_json: bool, seconds: float) -> None:
    if as_json:
        print_json({**outcome.document, "seconds": round(seconds, 3)})
    else:
        for problem in outcome.problems:
            say(f"Not as it should be: {problem}")
        if not live:
            say("All answers were simulated; nothing was spent.")
        say(f"Took {seconds:.1f} s. Everything that was started has been cleared away.")
        say("")
        print_next(program(), live=live)
    if outcome.problems:
        if as_json:
            say(f"millrace: {len(outcome.problems)} problem(s), see `problems`", err=True)
        raise typer.Exit(FAILED)


def program() -> str:
    """How this program is called from where the user is."""
    if shutil.which("millrace"):
        return "millrace"
    near = os.path.relpath(sys.argv[0])
    return near if len(near) < len(sys.argv[0]) else sys.argv[0]
