"""`millrace replay`: past requests again, through another model or prompt."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, cast, get_args

import typer

from millrace.schemas.errors import ConfigurationError
from millrace.schemas.ids import uuid7
from millrace.schemas.vocabulary import TaskType
from millrace.streams.cli.broker import find_broker
from millrace.streams.cli.exits import FAILED
from millrace.streams.cli.moments import parse_moment
from millrace.streams.cli.options import AsJson, ConfigFile, read_settings
from millrace.streams.cli.replay_run import ReplayOrder, carry_out
from millrace.streams.cli.request_options import pairs
from millrace.streams.replay import Selection, Variation

RATE = 50.0
OUTPUT_TOKENS = 400
WAIT_SECONDS = 1800.0
_REPLAY_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_PROMPT = re.compile(r"[a-z][a-z0-9_]*@[1-9][0-9]*")

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    epilog="Exit codes: 0 fine; 1 with --wait, a replayed request did not end in time; 2 wrong "
    "options; 3 broker or ClickHouse out of reach."
)
def replay(
    *,
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Requests from then on, such as 7d.")
    ],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Requests before.")] = "now",
    task: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="Only this task type.")
    ] = None,
    team: Annotated[list[str] | None, typer.Option(metavar="TEAM", help="Only this team.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only with this tag.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Ask this model instead.")
    ] = None,
    provider: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Ask this provider entry instead.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="NAME@VERSION", help="Use this template instead.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many and about what cost; send nothing.")
    ] = False,
    rate: Annotated[
        float, typer.Option(min=0.01, metavar="N", help="Requests a second, at most.")
    ] = RATE,
    limit: Annotated[int | None, typer.Option(min=1, help="Requests, at most.")] = None,
    replay_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Name this replay, or go on with one of that name."),
    ] = None,
    output_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Taken for an answer's length in the estimate.")
    ] = OUTPUT_TOKENS,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for all results and compare.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="With --wait: wait so long.")
    ] = WAIT_SECONDS,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Send the requests of a time range again, to see what would be different.

    Nothing goes to the original reply_to, and the books keep replays apart: results are on the
    evaluations topic and in the view `evaluations`. The same --replay-id never sends a request
    twice. With --json, prints one document.

    Examples:
      millrace replay --from 7d --task code_review --model gpt-4.1-mini --dry-run
      millrace replay --from 2026-11-01 --to 2026-11-08 --provider ollama --wait
      millrace replay --from 1d --prompt code_review@2 --limit 100 --replay-id try-2 --wait
      millrace report evaluations
    """
    now = datetime.now(UTC)
    selection = Selection(
        start=parse_moment(start, now=now),
        end=parse_moment(end, now=now),
        tasks=frozenset(_tasks(task or [])),
        teams=frozenset(team or []),
        tags=dict(pairs("--tag", tag or [])),
    )
    if selection.start >= selection.end:
        raise ConfigurationError(f"--from {start!r} is not before --to {end!r}")
    if prompt is not None and not _PROMPT.fullmatch(prompt):
        raise ConfigurationError(f"--prompt {prompt!r} is no NAME@VERSION, such as code_review@2")
    if replay_id is not None and not _REPLAY_ID.fullmatch(replay_id):
        raise ConfigurationError(
            f"--replay-id {replay_id!r} must be 1 to 100 letters, digits, '.', '_' or '-'"
        )
    settings = read_settings(config)
    order = ReplayOrder(
        replay_id=replay_id or uuid7(),
        resumed=replay_id is not None,
        selection=selection,
        variation=Variation(
            models=tuple(model or ()), providers=tuple(provider or ()), prompt=prompt
        ),
        send=not dry_run,
        per_second=rate,
        limit=limit,
        output_tokens=output_tokens,
        wait_seconds=timeout if wait and not dry_run else None,
        as_json=as_json,
    )
    if not asyncio.run(carry_out(order, settings=settings, kafka=find_broker(settings))):
        raise typer.Exit(FAILED)


def _tasks(names: Sequence[str]) -> list[TaskType]:
    known = get_args(TaskType)
    for name in names:
        if name not in known:
            raise ConfigurationError(f"--task {name!r} is none; there are {', '.join(known)}")
    return cast("list[TaskType]", list(names))
