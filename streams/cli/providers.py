"""`millrace providers`: how the providers are doing, as the callers tell."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import typer

from millrace.schemas.errors import BrokerError
from millrace.schemas.provider_health import ProviderHealth, ProviderState, Resources
from millrace.streams.cli.broker import find_broker, require_topics
from millrace.streams.cli.exits import FAILED
from millrace.streams.cli.options import AsJson, ConfigFile, read_settings
from millrace.streams.cli.output import print_json, print_table, say
from millrace.streams.dead_letters import RawRecord, utc_now
from millrace.streams.health_reader import HealthReader
from millrace.streams.health_view import HealthView
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.settings import Settings
from millrace.streams.topics import TopicNames

READ_SECONDS = 20.0

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A provider entry, or one of its models, over all processes that speak of it."""

    provider: str
    model: str | None
    state: ProviderState | None
    """None when nobody speaks of it; `half_open` also when only some processes say `open`."""
    since: datetime | None = None
    processes: int = 0
    error_rate: float = 0.0
    first_token_ms: float | None = None
    total_ms: float | None = None
    in_flight: int | None = None
    lag: int | None = None
    keys_aside: tuple[str, ...] = ()
    resources: Resources | None = None


@app.command(
    epilog="Exit codes: 0 each enabled entry can be called; 1 one cannot, or nobody speaks of it; "
    "3 no broker."
)
def providers(*, as_json: AsJson = False, config: ConfigFile = None) -> None:
    """Show how each provider entry and model is doing, as the running callers tell.

    What was not said again within health.stale_seconds is left out: its process is gone. With
    --json, prints one document.

    Examples:
      millrace providers
      millrace providers --config production.toml --json
    """
    settings = read_settings(config)
    kafka = find_broker(settings)
    reports = asyncio.run(_read(kafka, settings))
    found = standings(reports, settings.enabled_providers)
    failing = [each.provider for each in found if each.model is None and not _callable(each)]
    if as_json:
        documents = [_document(each) for each in found]
        told = [each.model_dump(mode="json") for each in reports]
        print_json({"works": not failing, "providers": documents, "reports": told})
    else:
        _show(found, failing)
    if failing:
        raise typer.Exit(FAILED)


def standings(reports: Sequence[ProviderHealth], entries: Iterable[str]) -> list[Standing]:
    """One line for each entry and model; also for entries of the config that nobody speaks of."""
    by_name: dict[tuple[str, str], list[ProviderHealth]] = {(name, ""): [] for name in entries}
    for each in reports:
        by_name.setdefault((each.provider, each.model or ""), []).append(each)
    return [
        _summed(provider, model or None, said)
        for (provider, model), said in sorted(by_name.items())
    ]


def _summed(provider: str, model: str | None, said: Sequence[ProviderHealth]) -> Standing:
    if not said:
        return Standing(provider=provider, model=model, state=None)
    states = {each.state for each in said}
    state = states.pop() if len(states) == 1 else "half_open"
    lags = [each.lag for each in said if each.lag is not None]
    calls = sum(each.calls for each in said)
    aliases = dict.fromkeys(key.alias for each in said for key in each.keys_aside)
    return Standing(
        provider=provider,
        model=model,
        state=state,
        since=max(each.since for each in said),
        processes=len(said),
        error_rate=sum(each.error_rate * each.calls for each in said) / calls if calls else 0.0,
        first_token_ms=_mean([each.first_token_ms for each in said]),
        total_ms=_mean([each.total_ms for each in said]),
        in_flight=sum(each.in_flight for each in said) if model is None else None,
        lag=sum(lags) if lags else None,
        keys_aside=tuple(aliases),
        resources=next((each.resources for each in said if each.resources), None),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if known else None


def _callable(standing: Standing) -> bool:
    return standing.state in ("closed", "half_open")


async def _read(kafka: KafkaSettings, settings: Settings) -> tuple[ProviderHealth, ...]:
    topic = TopicNames(kafka.topic_prefix).provider_health
    await require_topics(kafka, topic)
    view = HealthView(stale_seconds=settings.health.stale_seconds, now=time.monotonic)
    reader = HealthReader(topic=topic, view=view, kafka=kafka, set_aside=_pass, clock=utc_now)
    reading = asyncio.create_task(reader.run())
    caught_up = asyncio.create_task(reader.caught_up.wait())
    try:
        await asyncio.wait(
            (reading, caught_up), timeout=READ_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if reading.done():
            reading.result()
        if not caught_up.done():
            raise BrokerError(f"{topic!r} could not be read within {READ_SECONDS:g} s")
    finally:
        for task in (reading, caught_up):
            task.cancel()
            with suppress(asyncio.CancelledError, BrokerError):
                await task
    return view.reports()


async def _pass(
    source: RawRecord, error: Exception, *, request_id: str | None = None
) -> "asyncio.Future[None]":
    """Leave a bad record to the routers, who set it aside."""
    del source, error, request_id
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


def _document(standing: Standing) -> dict[str, object]:
    document = asdict(standing)
    if standing.resources is not None:
        document["resources"] = standing.resources.model_dump()
    return document


def _show(found: Sequence[Standing], failing: Sequence[str]) -> None:
    now = datetime.now(UTC)
    columns = (
        "Provider", "Model", "State", "For", "Errors", "First token", "In flight", "Lag",
        "Keys aside", "Machine",
    )  # fmt: skip
    rows = [
        (
            each.provider,
            each.model,
            each.state or "nobody tells",
            each.since and _span(now - each.since),
            f"{each.error_rate:.0%}" if each.model else None,
            None if each.first_token_ms is None else f"{each.first_token_ms:,.0f} ms",
            each.in_flight,
            each.lag,
            ", ".join(each.keys_aside) or None,
            each.resources and _machine(each.resources),
        )
        for each in found
    ]
    numbers = frozenset({"For", "Errors", "First token", "In flight", "Lag"})
    print_table(columns, rows, right=numbers)
    if failing:
        say(f"Cannot be called: {', '.join(failing)}.", err=True)
    elif found:
        say("Every entry can be called.")
    else:
        say("No provider entry is configured.")


def _machine(resources: Resources) -> str:
    shares = {
        "cpu": resources.cpu,
        "memory": resources.memory,
        "gpu": resources.gpu,
        "gpu memory": resources.gpu_memory,
    }
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share is not None)


def _span(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
