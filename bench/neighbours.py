"""What bad input on the requests topic costs those who send good requests beside it.

Neighbours come at a steady pace throughout. In every second phase bad input comes as well, many
times as much; the phases take turns, so that whatever else the machine does meets both alike.
A neighbour's time is from its sending to its response's own time stamp, of which the model takes
`--latency-ms`. Printed are the 99th percentiles with bad input and without, as the median over the
rounds and for all neighbours together, and the CPU time that one bad record costs beside a good
one. Each bad record must be a dead letter in the end.
"""

import os
import sys

if not __package__:  # run by its path: this folder would hide Python's own `http`
    sys.path[0] = sys.path[0].rpartition("/")[0]

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Self

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.brokers import broker_for
from bench.children import Child, python, split_cores
from bench.goals import judge
from bench.load import Load

RATIO_GOAL = 1.2
COST_GOAL = 1.0
WARM_UP = 300
WAIT_SECONDS = 60.0
TICK_SECONDS = 0.05
SETTLE_SECONDS = 1.0

_BAD: tuple[Callable[[str], bytes], ...] = (
    lambda name: b"\x00\xff" + name.encode(),
    lambda name: b'{"request_id":"%s","prompt":"cut sho' % name.encode(),
    lambda name: b'["%s"]' % name.encode(),
    lambda name: b'{"request_id":"%s","prompt":"\xff"}' % name.encode(),
    lambda name: b'{"request_id":"%s","prompt":7,"stream":"no"}' % name.encode(),
    lambda name: b'{"request_id":"%s","prompt":"Why?","promt":1}' % name.encode(),
    lambda name: b'{"request_id":"%s","template":"no_such@9"}' % name.encode(),
    lambda name: b'{"request_id":"%s","tags":{"%s":1}}' % (name.encode(), b"x" * 3_000),
)
"""No JSON, no object, no UTF-8, no request; of the latter half the sender hears."""


@dataclass(slots=True)
class Side:
    """Phases of one kind, and what was found in each."""

    p99_ms: list[float] = field(default_factory=list)
    all_ms: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    """The share of its core that the worker used."""

    def note(self, times_ms: list[float], busy: float) -> None:
        """Take in what a phase found."""
        self.p99_ms.append(_p99(times_ms))
        self.all_ms += times_ms
        self.busy.append(busy)


class Client:
    """Sends both kinds, and hears of the ends of the good ones."""

    def __init__(self, worker: Child, load: Load, given: argparse.Namespace) -> None:
        self.worker = worker
        self._load = load
        self._given = given
        self._draw = random.Random(given.seed)
        self._number = 0
        self._sent_at: dict[str, float] = {}
        self._ended_at: dict[str, float] = {}
        self.bad_sent = 0

    async def __aenter__(self) -> Self:
        servers = self._given.servers
        self._producer = AIOKafkaProducer(bootstrap_servers=servers, linger_ms=1)
        await self._producer.start()
        self._reader = AIOKafkaConsumer(
            self.worker.said["responses"],
            bootstrap_servers=servers,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        await self._reader.start()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.wait((self._reading,))
        await self._reader.stop()
        await self._producer.stop()

    async def phase(self, seconds: float, *, good: float, bad: float) -> tuple[list[float], float]:
        """Send at these paces; the neighbours' times in ms, and how busy the worker was."""
        cpu, start = self.worker.cpu_seconds(), time.perf_counter()
        names: list[str] = []
        bad_sent = 0
        while (elapsed := time.perf_counter() - start) < seconds:
            while len(names) < elapsed * good:
                names.append(await self._send_good())
            while bad_sent < elapsed * bad:
                await self._send_bad()
                bad_sent += 1
            await asyncio.sleep(TICK_SECONDS if not bad else TICK_SECONDS / 5)
        busy = (self.worker.cpu_seconds() - cpu) / (time.perf_counter() - start)
        async with asyncio.timeout(WAIT_SECONDS):
            while any(name not in self._ended_at for name in names):  # noqa: ASYNC110
                await asyncio.sleep(TICK_SECONDS)
        return [(self._ended_at[name] - self._sent_at[name]) * 1e3 for name in names], busy

    async def cost_ms(self, count: int, *, bad: bool) -> float:
        """CPU of the worker for each of so many records of one kind, sent at once."""
        topic = self.worker.said["responses" if not bad else "dead_letters"]
        goal = await self._load.written(topic) + count
        cpu = self.worker.cpu_seconds()
        for _ in range(count):
            await (self._send_bad() if bad else self._send_good())
        async with asyncio.timeout(WAIT_SECONDS):
            await self._load.wait_until_written(topic, goal)
        # What was rejected has its end soon after; it is part of the price.
        await asyncio.sleep(SETTLE_SECONDS)
        return (self.worker.cpu_seconds() - cpu) / count * 1e3

    async def _send_good(self) -> str:
        name = self._next("good")
        prompt = f"Say it. [[sim:latency={self._given.latency_ms} tokens=5]]"
        value = orjson.dumps({"request_id": name, "prompt": prompt})
        self._sent_at[name] = time.time()
        await self._producer.send(self.worker.said["requests"], value, key=name.encode())
        return name

    async def _send_bad(self) -> None:
        name = self._next("bad")
        value = self._draw.choice(_BAD)(name)
        self.bad_sent += 1
        await self._producer.send(self.worker.said["requests"], value, key=name.encode())

    def _next(self, kind: str) -> str:
        self._number += 1
        return f"{kind}-{self._number:07}"

    async def _read(self) -> None:
        async for record in self._reader:
            name = orjson.loads(record.value)["request_id"]
            self._ended_at.setdefault(name, record.timestamp / 1e3)


async def measure(client: Client, given: argparse.Namespace) -> None:
    """Take turns, print what was found and how the goals are met."""
    paces = {"good": given.neighbours, "bad": given.bad}
    await client.cost_ms(WARM_UP, bad=False)
    await client.cost_ms(WARM_UP, bad=True)
    await client.phase(given.seconds, **paces)
    without, beside = Side(), Side()
    for number in range(given.rounds):
        # Which comes first changes, too.
        for side in (without, beside) if number % 2 else (beside, without):
            bad = given.bad if side is beside else 0.0
            side.note(*await client.phase(given.seconds, good=given.neighbours, bad=bad))
    costs = [
        (await client.cost_ms(given.cost, bad=False), await client.cost_ms(given.cost, bad=True))
        for _ in range(given.cost_rounds)
    ]
    print(f"{'':10}{'median ms':>11}{'p99 ms':>9}{'all p99':>9}{'busy':>7}   p99 of each round")
    for title, side in (("alone", without), ("beside", beside)):
        rounds = " ".join(f"{each:.0f}" for each in side.p99_ms)
        print(
            f"{title:10}{median(side.all_ms):11.0f}{median(side.p99_ms):9.0f}"
            f"{_p99(side.all_ms):9.0f}{median(side.busy):7.2f}   {rounds}"
        )
    ratio = median(beside.p99_ms) / median(without.p99_ms)
    print(f"of all neighbours together: {_p99(beside.all_ms) / _p99(without.all_ms):.2f}")
    good_ms, bad_ms = (median(each) for each in zip(*costs, strict=True))
    print(f"CPU: a good request {good_ms:.3f} ms, a bad record {bad_ms:.3f} ms")
    judge("neighbours' 99th percentile beside bad input", ratio, RATIO_GOAL, at_least=False)
    judge("CPU of a bad record, of a good one's", bad_ms / good_ms, COST_GOAL, at_least=False)


def _p99(times: list[float]) -> float:
    return quantiles(times, n=100, method="inclusive")[-1]


async def run(given: argparse.Namespace) -> None:
    own, others = split_cores()
    os.sched_setaffinity(0, others)
    with ExitStack() as stack:
        broker = stack.enter_context(broker_for(given.bootstrap, cores=others))
        given.servers = broker.bootstrap_servers
        upstream = stack.enter_context(Child(python("upstream.py"), cores=others)).said["url"]
        command = ["--name", f"beside{os.getpid()}", "--bootstrap", broker.bootstrap_servers]
        command += ["--upstream", upstream]
        if given.profile is not None:
            command += ["--profile", given.profile]
        worker = stack.enter_context(Child(python("worker_millrace.py", *command), cores=own))
        print(
            f"Broker: {broker.name}. {given.neighbours:g} neighbours a second, the model takes "
            f"{given.latency_ms} ms; bad records: {given.bad:g} a second. Seed {given.seed}."
        )
        async with (
            Load(broker.bootstrap_servers, tokens=5) as load,
            Client(worker, load, given) as client,
        ):
            await measure(client, given)
            async with asyncio.timeout(WAIT_SECONDS):
                await load.wait_until_written(worker.said["dead_letters"], client.bad_sent)
            letters = await load.written(worker.said["dead_letters"])
        judge("dead letters for each bad record", letters / client.bad_sent, 1.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", help="use this broker; otherwise one is started")
    parser.add_argument("--neighbours", type=float, default=50.0, help="a second")
    parser.add_argument("--bad", type=float, default=150.0, help="a second, in every second phase")
    parser.add_argument("--latency-ms", type=int, default=400, help="of the model")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a phase")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--cost", type=int, default=1000, help="records of each kind, for their CPU"
    )
    parser.add_argument("--cost-rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", help="write there where the worker's time went")
    uvloop.run(run(parser.parse_args()))
