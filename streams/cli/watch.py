"""`millrace watch`: follow any topic of the pipeline."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from millrace.schemas.errors import ConfigurationError
from millrace.streams.cli.broker import existing_topics, find_broker, servers
from millrace.streams.cli.moments import Start, parse_start
from millrace.streams.cli.options import AsJson, ConfigFile, read_settings
from millrace.streams.cli.output import print_json_line, say
from millrace.streams.cli.record_lines import record_json, record_line, request_id_of
from millrace.streams.cli.topic_reader import TopicReader
from millrace.streams.dead_letters import RawRecord
from millrace.streams.kafka_settings import KafkaSettings

EVERYTHING_OF_A_REQUEST = (
    "requests",
    "calls",
    "chunks",
    "outcomes",
    "usage",
    "cancellations",
    "responses",
    "evaluations",
    "dead-letters",
)
DEFAULT_TOPICS = ("requests", "responses", "dead-letters")

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Exit codes: 0 fine; 2 no such topic; 3 no broker; 130 ended by Ctrl-C.")
def watch(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC]...", help="The same as --topic.", show_default=False),
    ] = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(
            "--topic",
            "-t",
            metavar="NAME",
            help="requests, calls, calls.PROVIDER, chunks, outcomes, responses, usage, "
            "cancellations, retries, provider-health, evaluations, dead-letters, or any topic's "
            "full name.",
        ),
    ] = None,
    request: Annotated[
        str | None, typer.Option(metavar="ID", help="Only what belongs to this request.")
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME|OFFSET", help="end, beginning, an offset, 10m, or an ISO time."
        ),
    ] = "end",
    ends: Annotated[bool, typer.Option("--no-follow", help="Stop at what is there now.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Stop after so many.")
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Follow topics: one line a record, or with --json one JSON object a line.

    Without a topic: requests, responses and dead letters; with --request, every topic. Joins no
    consumer group and commits nothing, so the pipeline does not notice.

    Examples:
      millrace watch
      millrace watch chunks --json | jq -j .value.delta
      millrace watch --request 0199a8f2-4e0c-7cc1-a3fd-5a8a7b8d6b11 --from 1h
      millrace watch dead-letters --from beginning --no-follow
    """
    kafka = find_broker(read_settings(config))
    place = parse_start(start, now=datetime.now(UTC))
    named = (*(names or ()), *(topic or ()))
    wanted = tuple(named or (EVERYTHING_OF_A_REQUEST if request else DEFAULT_TOPICS))
    asyncio.run(
        _watch(
            kafka,
            wanted=wanted,
            request=request,
            start=place,
            follow=not ends,
            limit=limit,
            as_json=as_json,
        )
    )


async def _watch(
    kafka: KafkaSettings,
    *,
    wanted: tuple[str, ...],
    request: str | None,
    start: Start,
    follow: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    kinds = resolve_topics(
        wanted, prefix=kafka.topic_prefix, existing=await existing_topics(kafka), kafka=kafka
    )
    found: list[RawRecord] = []
    shown = 0
    async with TopicReader(kafka=kafka, topics=tuple(kinds), start=start) as reader:
        async for record in reader.records(None if follow else await reader.ends()):
            if request is not None and request_id_of(record) != request:
                continue
            shown += 1
            if request is not None and not follow:
                found.append(record)
            else:
                _print(record, kinds, as_json=as_json)
            if shown == limit:
                break
    # One request's records are few, and lie on many topics: in order they tell its story.
    for record in sorted(found, key=lambda record: record.timestamp):
        _print(record, kinds, as_json=as_json)


def _print(record: RawRecord, kinds: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json_line(record_json(record))
    else:
        say(record_line(record, kind=kinds[record.topic]))


def resolve_topics(
    wanted: tuple[str, ...], *, prefix: str, existing: frozenset[str], kafka: KafkaSettings
) -> Mapping[str, str]:
    """The full names of topics and the kind of record on each, for names as they are typed.

    `calls` means those of every provider entry. A name without prefix is looked for under it
    first, then as it is.

    Raises:
        ConfigurationError: A topic does not exist.
    """
    found: dict[str, str] = {}
    for name in wanted:
        short = name.replace("_", "-") if prefix + name not in existing else name
        calls = [topic for topic in sorted(existing) if topic.startswith(f"{prefix}calls.")]
        if short == "calls" and calls:
            found.update(dict.fromkeys(calls, "calls"))
        elif prefix + short in existing:
            found[prefix + short] = short.partition(".")[0]
        elif name in existing:
            found[name] = name.removeprefix(prefix).partition(".")[0]
        else:
            ours = sorted(t.removeprefix(prefix) for t in existing if t.startswith(prefix))
            raise ConfigurationError(
                f"there is no topic {prefix + short!r} and no {name!r} at {servers(kafka)}; "
                f"there is {', '.join(ours) or 'none of the pipeline: millrace topics --create'}"
            )
    return found
