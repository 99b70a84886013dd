"""Sets up a whole pipeline with embedded parts in a folder of its own, and clears it away."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from millrace.schemas.errors import ConfigurationError
from millrace.schemas.record import describe
from millrace.streams.embedded.broker import EmbeddedBroker
from millrace.streams.logs import configure_logs
from millrace.streams.pipeline import run_pipeline
from millrace.streams.roles import ALL_ROLES
from millrace.streams.running_pipeline import RunningPipeline
from millrace.streams.settings import Settings

_PARTITIONS = 3
_DRAIN_SECONDS = 3.0
_SESSION_SECONDS = 20.0
"""Nobody joins or leaves, so that long ones delay nothing; and a machine that stands still for some
seconds ends none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A pipeline that runs."""

    settings: Settings
    """Those of a client: with the broker's address."""
    running: RunningPipeline


def stage_settings(
    folder: Path, *, providers: Mapping[str, Any], routes: Mapping[str, Any], log_level: str
) -> Settings:
    """Settings for a pipeline whose parts are embedded and keep what they keep in `folder`.

    Raises:
        ConfigurationError: An entry or a route is wrong.
    """
    try:
        return Settings.model_validate(
            {
                "data_folder": folder,
                "clickhouse": {"url": f"chdb://{folder / 'clickhouse'}", "batch_seconds": 0.3},
                "kafka": {"partitions": _PARTITIONS, "session_timeout_seconds": _SESSION_SECONDS},
                "providers": providers,
                "routes": routes,
                # Small, so that the first token is seen, and the end comes at once.
                "caller": {"commit_interval_seconds": 0.2, "drain_seconds": _DRAIN_SECONDS},
                "web": {"port": 0},
                "log": {"level": log_level},
            }
        )
    except ValidationError as error:
        raise ConfigurationError(f"the demo cannot be set up: {describe(error)}") from error


@asynccontextmanager
async def set_stage(settings: Settings, *, environ: Mapping[str, str]) -> AsyncIterator[Stage]:
    """Start the embedded broker and all roles in this process; the block runs once all are ready.

    The end of the block stops them, whatever ends it. The working directory is the data folder
    meanwhile, so that nothing is written elsewhere.

    Raises:
        PipelineError: The pipeline cannot start or go on, in which case the block is cancelled.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[RunningPipeline] = loop.create_future()
    configure_logs(settings.log, role="demo")
    with chdir(settings.data_folder):
        async with EmbeddedBroker() as broker:
            pipeline = asyncio.create_task(
                run_pipeline(
                    settings,
                    roles=ALL_ROLES,
                    environ=environ,
                    embedded=broker,
                    stop=stop,
                    on_ready=ready.set_result,
                )
            )
            kafka = settings.kafka.on_embedded(broker.bootstrap_servers)
            try:
                async with _while_running(pipeline):
                    yield Stage(
                        settings=settings.model_copy(update={"kafka": kafka}),
                        running=await ready,
                    )
            finally:
                # Asked to stop and not cancelled: it has consumers and an engine to close.
                stop.set()
                await asyncio.wait({pipeline})
            pipeline.result()


@asynccontextmanager
async def _while_running(pipeline: "asyncio.Task[None]") -> AsyncIterator[None]:
    """Break the block off when the pipeline ends, and raise what it ended by."""
    try:
        async with asyncio.timeout(None) as limit:
            now = asyncio.get_running_loop().time()

            def ended(_: "asyncio.Task[None]") -> None:
                limit.reschedule(now)

            pipeline.add_done_callback(ended)
            try:
                yield
            finally:
                pipeline.remove_done_callback(ended)
    except TimeoutError:
        if limit.expired():
            pipeline.result()
        raise
