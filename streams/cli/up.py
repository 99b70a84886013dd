"""`millrace up`: run the pipeline, whole or some roles of it."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from millrace.schemas.errors import ConfigurationError
from millrace.streams import crash_points
from millrace.streams.cli.broker import state_file
from millrace.streams.cli.options import ConfigFile, EnvFile, config_source
from millrace.streams.cli.output import say
from millrace.streams.cli.signals import reload_on_hangup, stop_on_signals
from millrace.streams.config_source import ConfigSource
from millrace.streams.embedded.broker import KEEPS_NOTHING, EmbeddedBroker
from millrace.streams.embedded.state_file import find_running
from millrace.streams.event_loop import calm_garbage_collector, run
from millrace.streams.logs import configure_logs
from millrace.streams.pipeline import run_pipeline
from millrace.streams.roles import ALL_ROLES, Role
from millrace.streams.running_pipeline import RunningPipeline
from millrace.streams.settings import Settings
from millrace.streams.status import show_status

NO_BROKER = (
    "no Kafka broker is configured: set KAFKA_BOOTSTRAP_SERVERS=host:port, or take the embedded "
    "one with --embedded"
)
NEXT = """Ready. Next, in another terminal:
  millrace send --prompt "Why is the sky blue?" --follow
  millrace watch
  millrace report
Ctrl-C stops it once the work under way has ended."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    epilog="Exit codes: 0 stopped in good order; 1 it cannot go on; 2 wrong settings; "
    "3 broker or ClickHouse out of reach."
)
def up(
    *,
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME]...", help="router, caller, validator, sink; all if none is named."
        ),
    ] = None,
    embedded: Annotated[
        bool,
        typer.Option("--embedded", help="With no broker configured, start the embedded one."),
    ] = False,
    config: ConfigFile = None,
    env_file: EnvFile = None,
) -> None:
    """Run the pipeline until Ctrl-C or SIGTERM, then finish and commit what is under way.

    Roles scale as processes of their own. Without a broker configured, the embedded one is
    offered; other processes on this machine find it through the data folder. A second Ctrl-C
    stops at once: what was under way is done again at the next start.

    Changes of the config file and of the --env-file take effect while it runs, as far as they
    can, and also at SIGHUP; a bad file changes nothing, and is logged.

    Examples:
      millrace up --embedded
      KAFKA_BOOTSTRAP_SERVERS=localhost:9092 millrace up
      millrace up --config production.toml --role router,validator
      millrace up --config production.toml --role caller --env-file /run/secrets/keys.env
    """
    roles = parse_roles(role or [])
    source = config_source(config, env_file)
    settings, environ = source.load()
    wants_embedded = False
    if settings.kafka.bootstrap_servers is None:
        running = find_running(state_file(settings))
        if running is not None:
            say(f"Using the embedded broker that runs at {running.bootstrap_servers}.", err=True)
            kafka = settings.kafka.on_embedded(running.bootstrap_servers)
            settings = settings.model_copy(update={"kafka": kafka})
        else:
            _agree(embedded)
            wants_embedded = True
    run(_up(settings, roles=roles, embedded=wants_embedded, source=source, environ=environ))


def parse_roles(names: Sequence[str]) -> frozenset[Role]:
    """Roles from names, each possibly several with commas; all when there is none.

    Raises:
        ConfigurationError: A name is no role.
    """
    found = [name.strip() for text in names for name in text.split(",") if name.strip()]
    unknown = [name for name in found if name not in set(Role)]
    if unknown:
        raise ConfigurationError(
            f"--role: there is no role {unknown[0]!r}; there are {', '.join(Role)}"
        )
    return frozenset(map(Role, found)) or ALL_ROLES


def _agree(embedded: bool) -> None:
    """Take the embedded broker only if somebody wants it."""
    if not embedded:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigurationError(NO_BROKER)
        say("No Kafka broker is configured.", err=True)
        if not typer.confirm("Start the embedded one?", default=True, err=True):
            raise ConfigurationError(NO_BROKER)
    say(KEEPS_NOTHING, err=True)


async def _up(
    settings: Settings,
    *,
    roles: frozenset[Role],
    embedded: bool,
    source: ConfigSource,
    environ: Mapping[str, str],
) -> None:
    stop, reload = asyncio.Event(), asyncio.Event()
    async with AsyncExitStack() as stack:
        show, live = stack.enter_context(_status_line())
        # After the line is there, which logs must be written above.
        configure_logs(settings.log, role=",".join(sorted(roles)))
        if point := crash_points.arm(environ):
            say(f"{crash_points.VARIABLE} is set: this process dies at {point.value!r}.", err=True)
        stack.enter_context(stop_on_signals(stop, on_first=_say_stopping))
        stack.enter_context(reload_on_hangup(reload))
        broker = None
        if embedded:
            broker = EmbeddedBroker(state_file=state_file(settings))
            await stack.enter_async_context(broker)
        shown: list[asyncio.Task[None]] = []
        over = asyncio.Event()

        def on_ready(running: RunningPipeline) -> None:
            calm_garbage_collector()
            say(NEXT, err=True)
            if live:
                shown.append(asyncio.create_task(show_status(running.status, show, stop=over)))

        try:
            await run_pipeline(
                settings,
                roles=roles,
                environ=environ,
                source=source,
                reload=reload,
                embedded=broker,
                stop=stop,
                on_ready=on_ready,
            )
        finally:
            over.set()
            await asyncio.gather(*shown)


def _say_stopping() -> None:
    say("Stopping: finishing what is under way. Once more stops at once.", err=True)


@contextmanager
def _status_line() -> Iterator[tuple[Callable[[str], None], bool]]:
    """How to show the status line, and whether there is a terminal for it."""
    if not sys.stderr.isatty():
        yield (lambda _: None), False
        return
    console = Console(stderr=True, highlight=False)
    with Live(console=console, auto_refresh=False, redirect_stdout=True) as line:

        def show(text: str) -> None:
            line.update(Text(text, overflow="ellipsis", no_wrap=True), refresh=True)

        yield show, True
