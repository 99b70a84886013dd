"""`millrace simulate`: the simulated model server alone."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from millrace.providers.simulator.behaviour import StandingRate
from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import InstanceSettings, SimulatorSettings
from millrace.schemas.errors import ConfigurationError
from millrace.schemas.record import describe
from millrace.streams.cli.output import print_json_line, say
from millrace.streams.cli.signals import stop_on_signals

PORT = 8900
_WIRES = ("openai", "anthropic", "gemini", "ollama")

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog="Exit codes: 0 stopped; 2 wrong options, or the port is taken.")
def simulate(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = PORT,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    seed: Annotated[int, typer.Option(help="Other seed, other answers.")] = 0,
    first_token_ms: Annotated[
        float, typer.Option(min=0, metavar="MS", help="Mean time to the first token.")
    ] = 0.0,
    jitter: Annotated[
        float, typer.Option(min=0, max=1, help="Greatest deviation from it, as a share.")
    ] = 0.0,
    tokens_per_second: Annotated[
        float, typer.Option(min=0, metavar="N", help="Pace; 0 is as fast as possible.")
    ] = 0.0,
    answer_tokens: Annotated[
        str | None, typer.Option(metavar="LEAST-GREATEST", help="Length of prose answers.")
    ] = None,
    dissent: Annotated[
        float | None, typer.Option(min=0, max=1, help="How often models disagree.")
    ] = None,
    prompt_cache: Annotated[
        bool, typer.Option("--prompt-cache", help="Count repeated beginnings as cached.")
    ] = False,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A model that is offered.")
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INSTANCE:SHARE:BEHAVIOUR[=VALUE]",
            help="Standing misbehaviour, such as cloud:0.05:http=500.",
        ),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append each call as JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a local server that speaks the wires of OpenAI, Anthropic, Gemini and Ollama.

    Its answers are made up and say so. GET /_sim/ledger tells what it was asked.

    Examples:
      millrace simulate
      millrace simulate --port 9000 --tokens-per-second 60 --first-token-ms 300
      millrace simulate --rate cloud:0.05:http=500 --rate cloud:0.01:cut=5
      curl -s localhost:8900/_sim/ledger
    """
    settings = _settings(
        {
            "seed": seed,
            "time_to_first_token_ms": first_token_ms,
            "time_to_first_token_jitter": jitter,
            "tokens_per_second": tokens_per_second,
            "answer_tokens": _span(answer_tokens),
            "dissent": dissent,
            "prompt_cache": prompt_cache,
            "models": model or None,
            "instances": _instances(rate or []),
            "ledger_path": ledger,
        }
    )
    asyncio.run(_serve(settings, host=host, port=port, as_json=as_json))


async def _serve(settings: SimulatorSettings, *, host: str, port: int, as_json: bool) -> None:
    stop = asyncio.Event()
    with stop_on_signals(stop):
        async with Simulator(settings, host=host, port=port) as simulator:
            urls = {wire: simulator.base_url("any", wire) for wire in _WIRES}
            if as_json:
                print_json_line({"url": simulator.url, "base_urls": urls})
            else:
                say(f"The simulator listens on {simulator.url}; its answers are made up.")
                say("Base URLs, where `any` may be any name, so that it plays several providers:")
                for wire, url in urls.items():
                    say(f"  {wire:<10} {url}")
            await stop.wait()


def _settings(given: dict[str, Any]) -> SimulatorSettings:
    try:
        return SimulatorSettings.model_validate(
            {name: value for name, value in given.items() if value is not None}
        )
    except ValidationError as error:
        raise ConfigurationError(f"the simulator cannot be set so: {describe(error)}") from error


def _span(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    least, _, greatest = text.partition("-")
    try:
        return int(least), int(greatest or least)
    except ValueError as error:
        raise ConfigurationError(
            f"--answer-tokens {text!r} is no range: give one such as 20-80"
        ) from error


def _instances(texts: list[str]) -> dict[str, InstanceSettings]:
    rates: dict[str, list[StandingRate]] = {}
    for text in texts:
        instance, share, behaviour = [*text.split(":", 2), "", ""][:3]
        name, _, value = behaviour.partition("=")
        try:
            rate = StandingRate.model_validate({"share": share, "behaviour": {name: value or True}})
        except ValidationError as error:
            raise ConfigurationError(
                f"--rate {text!r} is not INSTANCE:SHARE:BEHAVIOUR[=VALUE], such as "
                f"cloud:0.05:http=500: {describe(error)}"
            ) from error
        rates.setdefault(instance, []).append(rate)
    return {name: InstanceSettings(rates=tuple(found)) for name, found in rates.items()}
