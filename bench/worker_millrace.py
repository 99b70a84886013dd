"""The pipeline as `millrace up` runs it, without the sink: router, caller and validator."""

import argparse
import asyncio
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.children import say_ready, until_stdin_closes
from bench.sampler import sampling
from millrace.streams.event_loop import calm_garbage_collector
from millrace.streams.event_loop import run as run_loop
from millrace.streams.logs import configure_logs
from millrace.streams.pipeline import run_pipeline
from millrace.streams.roles import Role
from millrace.streams.running_pipeline import RunningPipeline
from millrace.streams.settings import Settings

ROLES = frozenset({Role.ROUTER, Role.CALLER, Role.VALIDATOR})


async def run(given: argparse.Namespace, folder: Path) -> None:
    settings = Settings.model_validate(
        {
            "app_id": given.name,
            "data_folder": folder,
            "clickhouse": {"url": f"chdb://{folder}/clickhouse"},
            "web": {"port": 0},
            "log": {"level": "warning"},
            "kafka": {
                "bootstrap_servers": given.bootstrap,
                "topic_prefix": f"{given.name}.",
                "partitions": given.partitions,
            },
            "providers": {
                "bench": {
                    "wire": "openai",
                    "base_url": given.upstream,
                    "models": {"gpt-4.1-mini": {}},
                    "prices": "openai",
                    "simulated": True,
                    "limits": {"in_flight": given.in_flight},
                }
            },
        }
    )
    configure_logs(settings.log, role="bench")
    stop = asyncio.Event()

    def on_ready(_: RunningPipeline) -> None:
        calm_garbage_collector()
        say_ready(
            requests=f"{given.name}.requests",
            calls=f"{given.name}.calls.bench",
            chunks=f"{given.name}.chunks",
            outcomes=f"{given.name}.outcomes",
            responses=f"{given.name}.responses",
            dead_letters=f"{given.name}.dead-letters",
        )

    pipeline = asyncio.create_task(
        run_pipeline(
            settings,
            roles=ROLES if given.roles is None else frozenset(map(Role, given.roles.split(","))),
            environ=os.environ,
            stop=stop,
            on_ready=on_ready,
        )
    )
    closing = asyncio.create_task(until_stdin_closes())
    await asyncio.wait((closing, pipeline), return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await pipeline
    closing.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--roles")
    parser.add_argument("--profile", type=Path, help="write there where the time went")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as scratch, ExitStack() as stack:
        if options.profile is not None:
            samples = stack.enter_context(sampling())
        run_loop(run(options, Path(scratch)))
    if options.profile is not None:
        options.profile.write_text("\n".join(samples.lines(60)), "utf-8")
