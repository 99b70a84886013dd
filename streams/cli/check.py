"""`millrace check`: what works, and what to fix."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from millrace.agents.validation.installed import load_validators
from millrace.agents.validation.policy import ValidationPolicy
from millrace.agents.validation.validators import BUILT_IN
from millrace.prompts.library import PACKAGED, PromptLibrary
from millrace.providers.entry import ProviderEntry
from millrace.providers.http_provider import HttpProvider
from millrace.providers.model_list import not_listed
from millrace.providers.registry import build_provider
from millrace.schemas.errors import ConfigurationError, PipelineError
from millrace.streams.cli.broker import find_broker, servers
from millrace.streams.cli.clickhouse import ask, engine_folder
from millrace.streams.cli.exits import FAILED, USAGE
from millrace.streams.cli.options import AsJson, ConfigFile, config_source, read_settings
from millrace.streams.cli.output import print_json, print_table, say
from millrace.streams.cli.topics import needed_topics
from millrace.streams.kafka_topic_admin import KafkaTopicAdmin
from millrace.streams.settings import Settings
from millrace.streams.topic_admin import describe_differences

CHECK_SECONDS = 20.0

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of trying a part."""

    part: str
    state: Literal["works", "note", "problem"]
    text: str


@app.command(epilog="Exit codes: 0 all works; 1 there is a problem; 2 the settings are wrong.")
def check(
    *,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Wait so long for each part.")
    ] = CHECK_SECONDS,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Try settings, broker, topics, ClickHouse, templates, validators and each provider.

    Spends no money: providers are asked for their list of models at most. With --json, prints
    one document.

    Examples:
      millrace check
      millrace check --config production.toml --json
    """
    try:
        settings = read_settings(config)
    except ConfigurationError as error:
        _print([Finding("settings", "problem", error.message)], as_json=as_json)
        raise typer.Exit(USAGE) from error
    findings = asyncio.run(check_all(settings, timeout_seconds=timeout))
    _print(findings, as_json=as_json)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(FAILED)


async def check_all(settings: Settings, *, timeout_seconds: float) -> list[Finding]:
    """Try every part, all at once; nothing that fails keeps another from being tried."""
    parts: list[tuple[str, Callable[[], Awaitable[list[Finding]]]]] = [
        ("broker", lambda: _broker(settings)),
        ("clickhouse", lambda: _clickhouse(settings)),
        ("templates", lambda: _templates(settings.prompts.folders)),
        ("validators", lambda: _validators(settings.validation)),
    ]
    for name, entry in settings.providers.items():
        parts.append((f"provider {name}", lambda n=name, e=entry: _provider(n, e)))  # type: ignore[misc]
    tried = await asyncio.gather(*(_try(part, work, timeout_seconds) for part, work in parts))
    findings = [
        Finding("settings", "works", "read and valid"),
        *(f for found in tried for f in found),
    ]
    if not settings.enabled_providers:
        findings.append(
            Finding(
                "providers",
                "problem",
                "none is configured: set OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, "
                "OPENROUTER_API_KEY or OLLAMA_BASE_URL, or add [providers.<name>]",
            )
        )
    return findings


async def _try(
    part: str, work: Callable[[], Awaitable[list[Finding]]], seconds: float
) -> list[Finding]:
    try:
        async with asyncio.timeout(seconds):
            return await work()
    except TimeoutError:
        return [Finding(part, "problem", f"no answer within {seconds:g} s")]
    except PipelineError as error:
        return [Finding(part, "problem", error.message)]


async def _broker(settings: Settings) -> list[Finding]:
    kafka = find_broker(settings)
    embedded = settings.kafka.bootstrap_servers is None
    async with KafkaTopicAdmin(client_kwargs=kafka.client_kwargs()) as admin:
        counts = await admin.partition_counts()
        specs = needed_topics(settings)
        differences = await describe_differences(admin, specs)
    kind = "embedded, keeps nothing" if embedded else "Kafka"
    findings = [Finding("broker", "works", f"{servers(kafka)} ({kind}), {len(counts)} topics")]
    missing = [item for item in differences if item.kind == "missing"]
    if missing:
        findings.append(
            Finding(
                "topics",
                "note",
                f"{len(missing)} of {len(specs)} are missing: `millrace topics --create` makes "
                "them, and so does `millrace up`",
            )
        )
    others = [item for item in differences if item.kind != "missing"]
    findings += [Finding("topics", "problem", str(item)) for item in others]
    if not differences:
        findings.append(Finding("topics", "works", f"all {len(specs)} are as needed"))
    return findings


async def _clickhouse(settings: Settings) -> list[Finding]:
    where = settings.clickhouse
    if where.embedded and not engine_folder(where).exists():
        text = f"{where.location} does not exist yet; the sink makes it"
        return [Finding("clickhouse", "works", text)]
    answer = await ask(where, "SELECT version()", limit=1)
    return [Finding("clickhouse", "works", f"{where.location}, version {answer.rows[0][0]}")]


async def _templates(folders: tuple[Path, ...]) -> list[Finding]:
    library = PromptLibrary.load((PACKAGED, *folders))
    return [
        Finding("templates", "works", f"{len(library.templates)} in {1 + len(folders)} folder(s)")
    ]


async def _validators(policy: ValidationPolicy) -> list[Finding]:
    with ExitStack() as stack:
        validators = await asyncio.to_thread(
            load_validators,
            policy.named_validators,
            timeout_seconds=policy.validator_timeout_seconds,
            stack=stack,
        )
    own = sorted(validators.keys() - BUILT_IN.keys())
    installed = f"; installed: {', '.join(own)}" if own else ""
    return [Finding("validators", "works", f"{len(BUILT_IN)} come along{installed}")]


async def _provider(name: str, entry: ProviderEntry) -> list[Finding]:
    part = f"provider {name}"
    if not entry.enabled:
        return [Finding(part, "note", "switched off by `enabled = false`")]
    provider = build_provider(name, entry, environ=config_source(None).environment())
    try:
        await provider.check()
    finally:
        await provider.aclose()
    models = f"{len(entry.models)} model(s)" if entry.models else "models as the server lists them"
    simulated = ", simulated" if entry.simulated else ""
    works = Finding(part, "works", f"{entry.address} ({entry.hardware}{simulated}), {models}")
    return [works, *await _models(name, entry)]


async def _models(name: str, entry: ProviderEntry) -> list[Finding]:
    """What to say of configured models that the server does not list, where it has a list."""
    if entry.simulated or entry.instances:
        return []  # The simulator is any model that it is asked for.
    environ = config_source(None).environment()
    keys = tuple(variable for variable in entry.api_key_env if environ.get(variable))
    single = entry.model_copy(update={"api_key_env": keys[:1]})
    server = build_provider(name, single, environ=environ)
    try:
        listed = await server.listed_models() if isinstance(server, HttpProvider) else None
    finally:
        await server.aclose()
    missing = () if listed is None else not_listed(entry.models, listed)
    if not missing:
        return []
    what = f"{', '.join(missing)}: not among the {len(listed or ())} models that the server lists"
    if entry.wire != "ollama":
        return [Finding(f"provider {name}", "note", f"{what}; fine if it is another name of one")]
    if entry.pull_missing:
        return [Finding(f"provider {name}", "note", f"{what}; a caller pulls it when it starts")]
    advice = "`ollama pull` it, or set `pull_missing = true`"
    return [Finding(f"provider {name}", "problem", f"{what}; {advice}")]


def _print(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        fine = all(finding.state != "problem" for finding in findings)
        print_json({"works": fine, "findings": [asdict(finding) for finding in findings]})
        return
    rows = [(finding.part, finding.state, finding.text) for finding in findings]
    print_table(("Part", "State", "What was found"), rows)
    problems = sum(finding.state == "problem" for finding in findings)
    say("Everything works." if not problems else f"{problems} problem(s) to fix.")
