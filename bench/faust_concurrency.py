"""An experiment: a stock Faust agent with concurrency loses a message, and our caller does not.

One partition. A slow message goes first, fast ones follow, and while the slow one is still being
worked on the worker is killed with SIGKILL and started again. Faust 0.15.3 has by then
committed past the slow message (its `_new_offset` takes the first run of acknowledged offsets
for a prefix), so that nobody reads it again. Our caller commits only up to the first message that
is not done. Needs a real Kafka: the embedded broker is not the place to prove such a thing.
"""

import os
import sys

if not __package__:  # run by its path: this folder would hide Python's own `http`
    sys.path[0] = sys.path[0].rpartition("/")[0]

import argparse
import asyncio
from contextlib import ExitStack
from dataclasses import dataclass

import orjson
import uvloop

from bench.brokers import broker_for, make_topics
from bench.children import Child, python, split_cores
from bench.load import Load

SLOW = b'{"request_id": "slow", "prompt": "Take your time. [[sim:latency=%d tokens=5]]"}'
COMMITS_SECONDS = 3.0
"""Both commit every half second."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A program that the experiment is made on."""

    title: str
    name: str
    module: str
    options: tuple[str, ...]


async def experiment(
    subject: Subject, load: Load, given: argparse.Namespace, shared: list[str]
) -> tuple[set[str], set[str]]:
    """Run it; returns the ids that were sent, and those that ever had a response."""
    own, _ = split_cores()
    command = python(subject.module, "--name", subject.name, *shared, *subject.options)
    with ExitStack() as first_life:
        worker = first_life.enter_context(Child(command, cores=own))
        topics = worker.said
        await load.send_raw(topics["requests"], b"slow", SLOW % round(given.slow_seconds * 1e3))
        sent = {"slow"}
        for _ in range(given.fast):
            sent.add(await load.send(topics["requests"]))
        await _responses(load, topics["responses"], given.fast, seconds=30)
        await asyncio.sleep(COMMITS_SECONDS)
        worker.kill()
    with Child(command, cores=own):
        # Its dead self has to be missed by the group before it gets its partition back.
        wait = given.slow_seconds + given.patience_seconds
        await _responses(load, topics["responses"], len(sent), seconds=wait)
    answered = {orjson.loads(value)["request_id"] async for value in load.read(topics["responses"])}
    return sent, answered


async def _responses(load: Load, topic: str, count: int, *, seconds: float) -> None:
    """Return once so many are there, or the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await load.wait_until_written(topic, count)
    except TimeoutError:
        return


async def run(given: argparse.Namespace) -> None:
    _, others = split_cores()
    os.sched_setaffinity(0, others)
    mark = f"concurrency{os.getpid()}"
    faust = Subject("stock Faust agent", f"{mark}f", "worker_faust", ("--concurrency", "16"))
    ours = Subject("Millrace", f"{mark}m", "worker_millrace", ("--partitions", "1"))
    with ExitStack() as stack:
        broker = stack.enter_context(broker_for(given.bootstrap, cores=others, need_real=True))
        upstream = stack.enter_context(Child(python("upstream"), cores=others)).said["url"]
        shared = ["--bootstrap", broker.bootstrap_servers, "--upstream", upstream]
        kinds = ("requests", "chunks", "responses")
        await make_topics(broker, 1, *(f"{faust.name}.{kind}" for kind in kinds))
        print(f"Broker: {broker.name}. One message of {given.slow_seconds:g} s, then fast ones.")
        async with Load(broker.bootstrap_servers, tokens=5) as load:
            for subject in (faust, ours):
                sent, answered = await experiment(subject, load, given, shared)
                lost = sorted(sent - answered)
                outcome = f"LOST {', '.join(lost)}" if lost else "lost nothing"
                print(f"{subject.title:20} sent {len(sent)}, answered {len(answered)}: {outcome}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", help="use this Kafka; otherwise one is started")
    parser.add_argument("--fast", type=int, default=40, help="messages behind the slow one")
    parser.add_argument("--slow-seconds", type=float, default=15.0)
    parser.add_argument(
        "--patience-seconds", type=float, default=20.0, help="beyond that, after the restart"
    )
    uvloop.run(run(parser.parse_args()))
