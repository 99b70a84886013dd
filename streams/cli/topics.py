"""`millrace topics`: create the topics, or say how they differ from what is needed."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from millrace.schemas.errors import BrokerError
from millrace.streams.cli.broker import find_broker, servers
from millrace.streams.cli.exits import FAILED
from millrace.streams.cli.options import AsJson, ConfigFile, read_settings
from millrace.streams.cli.output import print_json, print_table, say
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.kafka_topic_admin import KafkaTopicAdmin
from millrace.streams.names import changelogs
from millrace.streams.settings import Settings
from millrace.streams.topic_admin import (
    Difference,
    create_missing,
    describe_differences,
    fix_configs,
)
from millrace.streams.topics import TopicSpec, topic_specs

_HOUR_MS = 3_600_000
_DAY_HOURS = 24

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Exit codes: 0 all is as needed; 1 something differs; 3 no broker.")
def topics(
    *,
    create: Annotated[bool, typer.Option("--create", help="Make those that are missing.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Set configs that differ.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Compare the cluster's topics with what the pipeline needs.

    Changes nothing unless asked, and partitions never: more of them would move keys. With
    --json, prints one document.

    Examples:
      millrace topics
      millrace topics --create
      millrace topics --create --fix --json
    """
    settings = read_settings(config)
    kafka = find_broker(settings)
    embedded = settings.kafka.bootstrap_servers is None
    specs = needed_topics(settings)
    created, fixed, left = asyncio.run(
        _reconcile(kafka, specs, create=create, fix=fix, embedded=embedded)
    )
    if as_json:
        print_json(_document(specs, created=created, fixed=fixed, left=left))
    else:
        _show(specs, kafka=kafka, created=created, fixed=fixed, left=left)
    if left:
        raise typer.Exit(FAILED)


def needed_topics(settings: Settings) -> tuple[TopicSpec, ...]:
    """Every topic that the pipeline needs with these settings."""
    return topic_specs(
        settings.kafka, providers=settings.enabled_providers, changelogs=changelogs(settings)
    )


async def _reconcile(
    kafka: KafkaSettings, specs: tuple[TopicSpec, ...], *, create: bool, fix: bool, embedded: bool
) -> tuple[tuple[str, ...], tuple[Difference, ...], tuple[Difference, ...]]:
    created: tuple[str, ...] = ()
    fixed: tuple[Difference, ...] = ()
    async with KafkaTopicAdmin(client_kwargs=kafka.client_kwargs()) as admin:
        left = await describe_differences(admin, specs)
        if create and any(item.kind == "missing" for item in left):
            if embedded:
                raise BrokerError(
                    "the embedded broker takes new topics only from the process that started "
                    "it: stop `millrace up` and start it again with this config",
                    retryable=False,
                )
            created = await create_missing(admin, specs)
            left = await describe_differences(admin, specs)
        if fix and any(item.kind == "config" for item in left):
            fixed = await fix_configs(admin, left)
            left = await describe_differences(admin, specs)
    return created, fixed, left


def _document(
    specs: tuple[TopicSpec, ...],
    *,
    created: tuple[str, ...],
    fixed: tuple[Difference, ...],
    left: tuple[Difference, ...],
) -> dict[str, object]:
    return {
        "topics": [
            {
                "name": spec.name,
                "key": spec.key,
                "holds": spec.holds,
                "schemas": list(spec.schemas),
                "partitions": spec.partitions,
                "configs": spec.configs,
            }
            for spec in specs
        ],
        "created": list(created),
        "fixed": [asdict(item) for item in fixed],
        "differences": [asdict(item) for item in left],
    }


def _show(
    specs: tuple[TopicSpec, ...],
    *,
    kafka: KafkaSettings,
    created: tuple[str, ...],
    fixed: tuple[Difference, ...],
    left: tuple[Difference, ...],
) -> None:
    differing = {item.topic: item for item in left}
    rows = []
    for spec in specs:
        difference = differing.get(spec.name)
        state = "made now" if spec.name in created else "fine"
        if difference is not None:
            state = "missing" if difference.kind == "missing" else "differs"
        rows.append((spec.name, spec.partitions, _kept(spec), spec.holds, state))
    columns = ("Topic", "Partitions", "Kept", "Holds", "State")
    print_table(columns, rows, right=frozenset({"Partitions"}))
    for item in fixed:
        say(f"set {item.what} of {item.topic} to {item.wanted} (was {item.found})")
    for item in left:
        say(str(item), err=True)
    if not left:
        say(f"All {len(specs)} topics at {servers(kafka)} are as needed.")


def _kept(spec: TopicSpec) -> str:
    if spec.retention_ms is None:
        return "compacted"
    hours = spec.retention_ms / _HOUR_MS
    kept = f"{hours / _DAY_HOURS:g} d" if hours >= _DAY_HOURS else f"{hours:g} h"
    return f"compacted, {kept}" if "compact" in spec.cleanup else kept
