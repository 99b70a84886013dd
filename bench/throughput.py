"""Streaming requests a second, added time to first token, and memory, against two peers.

The whole pipeline (router, caller, validator; no sink anywhere) stands against
(a) a skeleton: the same hops in raw aiokafka, without promises (`worker_skeleton.py`), and
(b) a stock Faust agent with concurrency that calls the provider (`worker_faust.py`).

All three run at once and are measured in turn, on the same broker and the same simulator, each
as one process pinned to the first core, with broker, simulator and load on the others. Each is
given bursts of requests; a burst's rate counts from its first request to its last response. On
a machine that others use, the rate for a second of the worker's own CPU is the steadier figure.
"""

import os
import sys

if not __package__:  # run by its path: this folder would hide Python's own `http`
    sys.path[0] = sys.path[0].rpartition("/")[0]

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median, quantiles

import uvloop

from bench.brokers import Broker, broker_for, make_topics
from bench.children import Child, python, split_cores
from bench.goals import judge
from bench.load import PROMPT, Load, direct_first_tokens

BURST_SECONDS = 120.0
WARM_UP = 300
RATE_GOAL = 0.5
RSS_GOAL_MB = 200


@dataclass(slots=True)
class Contender:
    """A program that is measured, and what was found."""

    title: str
    worker: Child
    sent: int = 0
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)

    def topic(self, kind: str) -> str:
        """The name of its topic of this kind."""
        return str(self.worker.said[kind])


async def burst(contender: Contender, load: Load, count: int) -> tuple[float, float]:
    """The requests a second and the CPU milliseconds a request of one burst."""
    before = contender.worker.cpu_seconds()
    took = await load.burst(
        contender.topic("requests"), contender.topic("responses"), count, seconds=BURST_SECONDS
    )
    contender.sent += count
    return count / took, (contender.worker.cpu_seconds() - before) / count * 1e3


async def measure(
    contenders: Sequence[Contender], load: Load, upstream: str, given: argparse.Namespace
) -> list[float]:
    """Fill in what was found; returns the times to first token without a pipeline."""
    for contender in contenders:
        await burst(contender, load, WARM_UP)
    for _ in range(given.rounds):
        for contender in contenders:
            rate, cpu_ms = await burst(contender, load, given.requests)
            contender.rates.append(rate)
            contender.cpu_ms.append(cpu_ms)
    pace = {"count": given.paced, "per_second": given.pace}
    for contender in contenders:
        contender.first_tokens = await load.first_tokens(
            contender.topic("requests"), contender.topic("chunks"), **pace
        )
        contender.sent += given.paced
    prompt = PROMPT.format(number=0, tokens=given.tokens)
    direct = await direct_first_tokens(upstream, prompt, **pace)
    for contender in contenders:
        await load.check_completed(contender.topic("responses"), expected=contender.sent)
    return direct


def report(contenders: Mapping[str, Contender], direct: Sequence[float]) -> None:
    """Print the table and how the goals are met."""
    base = contenders["skeleton"]
    print(
        f"{'':24}{'req/s':>8}{'ratio':>7}{'CPU ms/req':>12}{'ratio':>7}"
        f"{'+TTFT p50':>11}{'p95 ms':>8}{'RSS MB':>8}{'peak':>6}"
    )
    for contender in contenders.values():
        added = [(each - median(direct)) * 1e3 for each in contender.first_tokens]
        now, most = contender.worker.rss_mb()
        print(
            f"{contender.title:24}{median(contender.rates):8.0f}{_rate_ratio(contender, base):7.2f}"
            f"{median(contender.cpu_ms):12.3f}{_cpu_ratio(contender, base):7.2f}"
            f"{median(added):11.1f}{quantiles(added, n=20)[-1]:8.1f}{now:8.0f}{most:6.0f}"
        )
    print(f"Without a pipeline the first token takes {median(direct) * 1e3:.1f} ms (median).")
    ours = contenders["millrace"]
    judge("rate against the skeleton", _rate_ratio(ours, base), RATE_GOAL)
    judge("rate for a second of CPU, the same", _cpu_ratio(ours, base), RATE_GOAL)
    judge("peak RSS in MB", ours.worker.rss_mb()[1], RSS_GOAL_MB, at_least=False)


def _rate_ratio(contender: Contender, base: Contender) -> float:
    """The median over rounds of what was measured in the same round."""
    return median(a / b for a, b in zip(contender.rates, base.rates, strict=True))


def _cpu_ratio(contender: Contender, base: Contender) -> float:
    return median(b / a for a, b in zip(contender.cpu_ms, base.cpu_ms, strict=True))


async def run(given: argparse.Namespace) -> None:
    own, others = split_cores()
    os.sched_setaffinity(0, others)
    mark = f"bench{os.getpid()}"
    with ExitStack() as stack:
        broker = stack.enter_context(broker_for(given.bootstrap, cores=others))
        upstream = stack.enter_context(Child(python("upstream"), cores=others)).said["url"]
        print(f"Broker: {broker.name}. Upstream: the simulator, {given.tokens} tokens a call.")
        print(f"Measured: core {own}; all else: cores {others}. In flight: {given.in_flight}.")

        def contender(title: str, name: str, module: str, flag: str) -> Contender:
            command = ["--name", name, "--bootstrap", broker.bootstrap_servers]
            command += ["--upstream", upstream, flag, str(given.in_flight)]
            worker = stack.enter_context(Child(python(module, *command), cores=own))
            return Contender(title, worker)

        await _make_peer_topics(broker, mark, given.partitions)
        contenders = {
            "skeleton": contender(
                "raw aiokafka skeleton", f"{mark}s", "worker_skeleton", "--in-flight"
            ),
            "millrace": contender("Millrace", f"{mark}m", "worker_millrace", "--in-flight"),
        }
        if not given.no_faust:
            contenders["faust"] = contender(
                "stock Faust agent", f"{mark}f", "worker_faust", "--concurrency"
            )
        async with Load(broker.bootstrap_servers, tokens=given.tokens) as load:
            direct = await measure([*contenders.values()], load, upstream, given)
        report(contenders, direct)


async def _make_peer_topics(broker: Broker, mark: str, partitions: int) -> None:
    kinds = ("requests", "calls", "chunks", "outcomes", "responses")
    await make_topics(
        broker, partitions, *(f"{mark}{each}.{kind}" for each in "sf" for kind in kinds)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bootstrap", help="use this broker; otherwise one is started")
    parser.add_argument("--requests", type=int, default=2000, help="in a burst")
    parser.add_argument("--rounds", type=int, default=5, help="bursts for each")
    parser.add_argument("--tokens", type=int, default=20, help="of an answer")
    parser.add_argument("--in-flight", type=int, default=256, help="calls at once")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--paced", type=int, default=100, help="requests for time to first token")
    parser.add_argument("--pace", type=float, default=25.0, help="of those, a second")
    parser.add_argument("--no-faust", action="store_true", help="leave the Faust agent out")
    uvloop.run(run(parser.parse_args()))
