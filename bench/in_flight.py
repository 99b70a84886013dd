"""A thousand calls of a second each in flight on one partition.

Little's law allows `in flight / seconds a call` calls a second. The caller role alone works off
calls that lie on one partition, in one process pinned to the first core; printed is the share of
the allowed rate that it reaches, and whether each stream's chunks are whole and in order. On a
machine that others use no program reaches it, so a bare aiohttp loop that makes the same calls in
the same run, with no Kafka at all, stands beside it.
"""

import os
import sys

if not __package__:  # run by its path: this folder would hide Python's own `http`
    sys.path[0] = sys.path[0].rpartition("/")[0]

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from statistics import median

import orjson
import uvloop
from aiokafka import AIOKafkaProducer

from bench.brokers import broker_for
from bench.children import Child, python, split_cores
from bench.goals import judge
from bench.load import Load, direct_first_tokens
from millrace.schemas.call import Call, Candidate, Job, MemberPlan, Plan
from millrace.schemas.message import Message

SHARE_GOAL = 0.9
DEADLINE = timedelta(minutes=10)
WARM_UP_SECONDS = 60.0
BATCH_BYTES = 512 * 1024
"""Of the calls that are written: in aiokafka's 16 KB they come no quicker than they are made."""


def call(number: int, prompt: str) -> Call:
    """What the router would have made of a request."""
    now = datetime.now(UTC)
    target = Candidate(provider="bench", model="gpt-4.1-mini", hardware="cloud")
    return Call(
        job=Job(
            request_id=f"call-{number:06}",
            task="general",
            messages=(Message(role="user", content=prompt),),
            stream=True,
            accepted_at=now,
            deadline=now + DEADLINE,
        ),
        plan=Plan(strategy="auto", members=(MemberPlan(candidates=(target,)),)),
    )


async def send(producer: AIOKafkaProducer, topic: str, values: Sequence[bytes]) -> None:
    """Write these calls, as quickly as the broker takes them."""
    for number, value in enumerate(values):
        await producer.send(topic, value, key=b"%06d" % number)


async def disordered(load: Load, chunks: str) -> tuple[int, int]:
    """How many streams there are, and how many are not 0, 1, 2, … with one end, in order."""
    streams: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
    async for value in load.read(chunks):
        chunk = orjson.loads(value)
        streams[chunk["request_id"]].append((chunk["sequence"], chunk["end"]))
    wrong = 0
    for pieces in streams.values():
        last = len(pieces) - 1
        right = [(number, "stop" if number == last else None) for number in range(last + 1)]
        wrong += pieces != right
    return len(streams), wrong


def bare_rate(upstream: str, count: int, given: argparse.Namespace, cores: set[int]) -> float:
    """Calls a second of a bare aiohttp loop."""
    options = ["--client", "aiohttp", "--upstream", upstream, "--streams", str(count)]
    options += ["--at-once", str(given.in_flight), "--latency-ms", str(given.latency_ms)]
    options += ["--tokens", str(given.tokens)]
    with Child(python("http", *options), cores=cores) as child:
        return count / float(child.said["took"])


async def run(given: argparse.Namespace) -> None:
    own, others = split_cores()
    os.sched_setaffinity(0, others)
    count = given.in_flight * given.waves
    warm_up = given.in_flight
    prompt = f"Say it. [[sim:latency={given.latency_ms} tokens={given.tokens}]]"
    with ExitStack() as stack:
        broker = stack.enter_context(broker_for(given.bootstrap, cores=others))
        upstream = stack.enter_context(Child(python("upstream"), cores=others)).said["url"]
        name = f"flight{os.getpid()}"
        bare = bare_rate(upstream, count, given, own)
        command = ["--name", name, "--bootstrap", broker.bootstrap_servers]
        command += ["--upstream", upstream, "--roles", "caller", "--partitions", "1"]
        command += ["--in-flight", str(given.in_flight)]
        worker = stack.enter_context(Child(python("worker_millrace", *command), cores=own))
        topics = worker.said
        print(f"Broker: {broker.name}; {count} calls, {given.in_flight} in flight.")
        values = [call(number, prompt).encode() for number in range(warm_up + count)]
        async with (
            Load(broker.bootstrap_servers, tokens=given.tokens) as load,
            AIOKafkaProducer(
                bootstrap_servers=broker.bootstrap_servers, max_batch_size=BATCH_BYTES
            ) as producer,
        ):
            lone = await direct_first_tokens(upstream, prompt, count=5, per_second=5)
            # As the bare loop: its connections are open, and its code is warm, when time begins.
            await send(producer, topics["calls"], values[:warm_up])
            async with asyncio.timeout(WARM_UP_SECONDS):
                await load.wait_until_written(topics["outcomes"], warm_up)
            cpu = worker.cpu_seconds()
            start = time.perf_counter()
            await send(producer, topics["calls"], values[warm_up:])
            async with asyncio.timeout(20 + 5 * given.waves):
                await load.wait_until_written(topics["outcomes"], warm_up + count)
            took = time.perf_counter() - start
            cpu = worker.cpu_seconds() - cpu
            found, wrong = await disordered(load, topics["chunks"])
        allowed = given.in_flight / median(lone)
        share = count / took / allowed
        print(
            f"A call takes {median(lone):.3f} s, so that {allowed:.0f} a second are allowed; "
            f"{count / took:.0f} were made, with {cpu / count * 1e3:.2f} ms of CPU each."
        )
        print(
            f"A bare aiohttp loop made {bare:.0f} a second, {bare / allowed:.2f} of what is"
            f" allowed; the caller reached {count / took / bare:.2f} of that."
        )
        print(f"{found} streams of {warm_up + count}; not whole or out of order: {wrong}")
        judge("share", share, SHARE_GOAL)
        judge("streams that are whole and in order", found - wrong, warm_up + count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", help="use this broker; otherwise one is started")
    parser.add_argument("--in-flight", type=int, default=1000)
    parser.add_argument(
        "--waves",
        type=int,
        default=30,
        help="calls for each place: the law is of what lasts, not of a beginning and an end",
    )
    parser.add_argument("--latency-ms", type=int, default=1000, help="until the first token")
    parser.add_argument("--tokens", type=int, default=20, help="of an answer")
    uvloop.run(run(parser.parse_args()))
