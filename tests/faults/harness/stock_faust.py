"""A stock Faust agent with concurrency, for comparison.

`bench/worker_faust.py` is the agent as Faust's own guide has it: it asks the model server itself
and writes chunks and a response. What it never answers is lost: nothing will read it again.
"""

import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from harness.beside import Contender
from harness.outside import Program
from harness.setting import Setting
from harness.tape import Tape

_ROOT = Path(__file__).parents[3]


class _StockFaust:
    """The agent in a process of its own; its responses are all that it tells of its calls."""

    name = "stock Faust agent, concurrency 64"

    def __init__(self, worker: Program, *, topic: str, tape: Tape) -> None:
        self._worker = worker
        self.topic = topic
        self.tape = tape

    async def kill(self) -> None:
        await self._worker.end(signal.SIGKILL)
        await self._worker.start()

    async def restart(self) -> None:
        # It stops its app when its input ends, and SIGCONT does nothing to it.
        await self._worker.end(signal.SIGCONT)
        await self._worker.start()

    def told(self) -> Mapping[str, int]:
        return {request_id: len(ends) for request_id, ends in self.tape.ends.items()}


@asynccontextmanager
async def stock_faust(setting: Setting, seed: int) -> AsyncIterator[Contender]:
    """The agent on topics of its own, on the same broker and upstream."""
    cluster = setting.cluster
    name = f"stock{seed}"
    topics = [f"{name}.{kind}" for kind in ("requests", "chunks", "responses")]
    await make_topics(cluster.bootstrap_servers, topics, partitions=cluster.partitions)
    port = cluster.to_provider.port
    worker = Program(
        *(sys.executable, "-m", "bench.worker_faust", "--name", name),
        *("--bootstrap", cluster.bootstrap_servers),
        *("--upstream", f"http://127.0.0.1:{port}/openai/openai/v1", "--concurrency", "64"),
        folder=_ROOT,
    )
    async with Tape(
        bootstrap_servers=cluster.bootstrap_servers, prefix=f"{name}.", names=("responses",)
    ) as tape:
        await worker.start()
        try:
            yield _StockFaust(worker, topic=topics[0], tape=tape)
        finally:
            await worker.end(signal.SIGKILL)


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
