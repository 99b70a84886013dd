"""A stock Faust agent with concurrency under the same load and faults, for comparison.

`bench/worker_faust.py` is the agent as Faust's own guide has it: it asks the model server itself
and writes chunks and a response. What it never answers is lost: nothing will read it again.
"""

import asyncio
import random
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from harness.cluster import PROMPT_MARK
from harness.load import KINDS, Kind, Load
from harness.outside import Program
from harness.setting import Setting
from harness.tape import Tape

_ROOT = Path(__file__).parents[3]
_QUIET_SECONDS = 20.0
"""Nothing new for so long: then nothing more comes."""


@dataclass(frozen=True)
class Loss:
    """What a program did with the requests it was sent."""

    name: str
    sent: int
    answered: int
    kills: int

    @property
    def lost(self) -> int:
        """Requests without any answer."""
        return self.sent - self.answered


async def stock_faust(
    setting: Setting,
    *,
    seed: int,
    requests: int,
    kills: int,
    kinds: Sequence[Kind] = KINDS,
    per_second: float = 30.0,
) -> Loss:
    """Run the agent through so many SIGKILLs at times drawn from the seed."""
    cluster = setting.cluster
    name = f"stock{seed}"
    topics = [f"{name}.{kind}" for kind in ("requests", "chunks", "responses")]
    await make_topics(cluster.bootstrap_servers, topics, partitions=cluster.partitions)
    port = cluster.to_provider.port
    command = (
        *(sys.executable, "-m", "bench.worker_faust", "--name", name),
        *("--bootstrap", cluster.bootstrap_servers),
        *("--upstream", f"http://127.0.0.1:{port}/openai/openai/v1", "--concurrency", "64"),
    )
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(
            Load(
                bootstrap_servers=cluster.bootstrap_servers,
                topic=topics[0],
                mark=PROMPT_MARK,
                seed=seed,
            )
        )
        tape = await stack.enter_async_context(
            Tape(
                bootstrap_servers=cluster.bootstrap_servers,
                prefix=f"{name}.",
                names=("responses",),
            )
        )
        worker = Program(*command, folder=_ROOT)
        await worker.start()
        stack.push_async_callback(worker.end)
        sending = asyncio.create_task(load.send(requests, kinds=kinds, per_second=per_second))
        for wait in kill_times(seed, kills, requests / per_second):
            await asyncio.sleep(wait)
            await worker.end(signal.SIGKILL)
            await worker.start()
        await sending
        await _quiet(tape)
        answered = sum(each in tape.ends for each in load.sent)
    return Loss("stock Faust agent, concurrency 64", len(load.sent), answered, kills)


async def millrace(
    setting: Setting,
    *,
    seed: int,
    requests: int,
    kills: int,
    kinds: Sequence[Kind] = KINDS,
    per_second: float = 30.0,
) -> Loss:
    """Our caller through the same, on the same broker and upstream."""
    async with Load(
        bootstrap_servers=setting.cluster.bootstrap_servers,
        topic=setting.cluster.topic("requests"),
        mark=PROMPT_MARK,
        seed=seed + 1_000_000,
    ) as load:
        sending = asyncio.create_task(load.send(requests, kinds=kinds, per_second=per_second))
        for wait in kill_times(seed, kills, requests / per_second):
            await asyncio.sleep(wait)
            await setting.cluster.workers["caller"].kill()
            await setting.cluster.workers["caller"].start()
        await sending
        await _quiet(setting.tape)
        answered = sum(each in setting.tape.ends for each in load.sent)
    return Loss("Millrace, the caller killed", len(load.sent), answered, kills)


def kill_times(seed: int, kills: int, seconds: float) -> list[float]:
    """Pauses before each kill."""
    draw = random.Random(f"kills {seed}")
    return [draw.uniform(0.4, 0.9) * seconds / kills for _ in range(kills)]


async def _quiet(tape: Tape) -> None:
    seen = -1
    while seen != (now := len(tape.ends)):
        seen = now
        await asyncio.sleep(_QUIET_SECONDS)


async def make_topics(servers: str, names: Sequence[str], *, partitions: int) -> None:
    """Make topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(name, num_partitions=partitions, replication_factor=1) for name in names]
        )
    finally:
        await admin.close()
