"""The program `millrace`: its commands, each loaded only when it is called."""

import logging
import sys
from importlib import import_module, metadata
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command as build_command

from millrace.streams.cli.exits import INTERRUPTED, exit_code


class Entry(NamedTuple):
    """Where a command lives, and its line in the overview."""

    module: str
    summary: str


COMMANDS = {
    "demo": Entry("demo", "Show everything at work on this machine, with simulated models."),
    "up": Entry("up", "Run the pipeline, whole or some roles of it."),
    "send": Entry("send", "Send requests, and follow their answers."),
    "explain": Entry("explain", "Show how a request would be routed, and why, without sending it."),
    "watch": Entry("watch", "Follow any topic of the pipeline."),
    "sql": Entry("sql", "Ask ClickHouse, embedded or a server."),
    "report": Entry("report", "Show the ready views: cost, latency, errors and more."),
    "topics": Entry("topics", "Create the topics, or say how they differ from what is needed."),
    "schemas": Entry("schemas", "Write JSON Schema and AsyncAPI for the public topics."),
    "providers": Entry("providers", "Show how the providers are doing, as the callers tell."),
    "check": Entry("check", "Try config, broker, ClickHouse and providers; say what to fix."),
    "validate": Entry("validate", "Check an answer as the pipeline would, without one."),
    "replay": Entry("replay", "Send past requests again, through another model or prompt."),
    "simulate": Entry("simulate", "Run the simulated model server alone."),
}
"""In the order of the overview. A command's module holds a Typer app named `app`."""

EXIT_CODES = """Exit codes: 0 fine; 1 the work failed; 2 wrong usage or settings;
3 broker, ClickHouse or provider out of reach."""

_EXAMPLES = "\n\nExamples:\n"
_AS_IT_IS = "\b\n"
"""Tells the help formatter not to fill the paragraph that follows."""


class LazyCommands(TyperGroup):
    """Loads a command's module when it is called, so that the overview stays quick."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command's name, in the order of the overview."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command's name and summary, without the module behind it."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        return entry and TyperCommand(cmd_name, help=entry.summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command itself, ready to run."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and name in COMMANDS:
            module = import_module(f"millrace.streams.cli.{COMMANDS[name].module}")
            command = build_command(module.app)
            command.name = name
            command.help = (command.help or "").replace(
                _EXAMPLES, f"\n\n{_AS_IT_IS}{_EXAMPLES[2:]}"
            )
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a named failure becomes one sentence and an exit code."""
        # Libraries would tell of every broken connection; a command says once what it means.
        logging.getLogger().addHandler(logging.NullHandler())
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            code = exit_code(error)
            if code is None:
                raise
            typer.echo(f"millrace: {error}", err=True)
            raise typer.Exit(code) from error


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"millrace {metadata.version('millrace')}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)


@app.callback()
def millrace(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """LLM work as a durable, replayable, accountable event stream on Kafka."""
    del version


def main() -> None:
    """Run the program with the process's arguments."""
    sys.exit(app(prog_name="millrace"))
