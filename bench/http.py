"""A thousand concurrent streams through our HTTP client, stock httpx, and bare aiohttp.

Each client, in a process of its own on the first core, reads streams of tokens from the
simulator, so many at once; printed are streams a second and CPU a stream, with ratios to bare
aiohttp. A client that fails is told of as such. One that does not end in time counts with the
rate that it would have had by ending at that moment, more than it reached.
"""

import os
import sys

if not __package__:  # run by its path: this folder would hide Python's own `http`
    sys.path[0] = sys.path[0].rpartition("/")[0]

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from statistics import median
from typing import Any

import httpx
import orjson
import uvloop

from bench.children import Child, python, say_ready, split_cores, until_stdin_closes
from bench.goals import judge
from bench.streamed_call import deltas, session
from millrace.providers.entry import Timeouts
from millrace.providers.transport import build_client

BARE_GOAL = 0.8
"""Of bare aiohttp's streams a second."""
STOCK_GOAL = 3.0
"""Times stock httpx's."""
CLIENTS = ("aiohttp", "millrace", "httpx")
PROMPT = "Say it. [[sim:latency={latency} tokens={tokens}]]"


async def drive(ask: Callable[[], Awaitable[None]], streams: int, at_once: int) -> int:
    """Make so many calls, so many at once; returns how many failed."""
    left, failed = iter(range(streams)), 0

    async def one_place() -> None:
        nonlocal failed
        for _ in left:
            try:
                await ask()
            except (httpx.HTTPError, OSError):
                failed += 1

    await asyncio.gather(*(one_place() for _ in range(at_once)))
    return failed


async def asker(
    client: str, upstream: str, prompt: str, stack: AsyncExitStack
) -> Callable[[], Awaitable[None]]:
    """What makes one call with this client and reads its reply to the end."""
    body = orjson.dumps(
        {"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": True}
    )
    if client == "aiohttp":
        http = await stack.enter_async_context(session())

        async def ask_bare() -> None:
            async for _ in deltas(http, upstream, prompt):
                pass

        return ask_bare
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    made = (
        build_client(Timeouts())
        if client == "millrace"
        else httpx.AsyncClient(limits=limits, timeout=None)  # noqa: S113 (the run has its limit)
    )
    stack.push_async_callback(made.aclose)
    headers = {"content-type": "application/json"}

    async def ask() -> None:
        request = made.build_request(
            "POST", f"{upstream}/chat/completions", content=body, headers=headers
        )
        response = await made.send(request, stream=True)
        try:
            async for piece in response.aiter_bytes():
                for line in piece.splitlines():
                    if line.startswith(b"data: {"):
                        orjson.loads(line[6:])
        finally:
            await response.aclose()

    return ask


async def be_client(given: argparse.Namespace) -> None:
    """The child: make the calls and say how it went."""
    prompt = PROMPT.format(latency=given.latency_ms, tokens=given.tokens)
    async with AsyncExitStack() as stack:
        ask = await asker(given.client, given.upstream, prompt, stack)
        await drive(ask, given.at_once, given.at_once)
        cpu, start = time.process_time(), time.perf_counter()
        failed: int | None
        try:
            async with asyncio.timeout(given.seconds):
                failed = await drive(ask, given.streams, given.at_once)
        except TimeoutError:
            failed = None
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
    say_ready(took=took, cpu=cpu, failed=failed)
    await until_stdin_closes()


def run(given: argparse.Namespace) -> None:
    """The parent: one client after the other, so often as rounds."""
    own, others = split_cores()
    os.sched_setaffinity(0, others)
    with ExitStack() as stack:
        upstream = stack.enter_context(Child(python("upstream"), cores=others)).said["url"]
        print(f"{given.streams} streams of {given.tokens} tokens, {given.at_once} at once")
        rates: dict[str, list[float]] = {client: [] for client in CLIENTS}
        for _ in range(given.rounds):
            base = 0.0
            for client in CLIENTS:
                options = ["--client", client, "--upstream", upstream]
                for name in ("streams", "at_once", "latency_ms", "tokens", "seconds"):
                    options += [f"--{name.replace('_', '-')}", str(getattr(given, name))]
                with Child(python("http", *options), cores=own) as child:
                    said = child.said
                rates[client].append(_rate(client, said, given.streams))
                if said["failed"] is None:
                    print(f"  {client:10} did not end within {given.seconds} s")
                    continue
                base = base or said["cpu"]
                print(
                    f"  {client:10}{given.streams / said['took']:7.0f} streams/s,"
                    f" {said['cpu'] / given.streams * 1e3:6.3f} ms CPU a stream"
                    f" ({said['cpu'] / base:5.2f} of aiohttp's), {said['failed']} failed"
                )
    judge("streams a second, to bare aiohttp's", _ratio(rates, "aiohttp"), BARE_GOAL)
    judge("streams a second, to stock httpx's", _ratio(rates, "httpx"), STOCK_GOAL)


def _rate(client: str, said: Mapping[str, Any], streams: int) -> float:
    """Whole streams a second; at most, for a peer that did not end in time, and 0 for us."""
    failed = said["failed"]
    if failed is None:
        return 0.0 if client == "millrace" else streams / said["took"]
    return (streams - failed) / said["took"]


def _ratio(rates: Mapping[str, Sequence[float]], base: str) -> float:
    """Our rate by that of another client: the median over rounds."""
    return median(
        ours / theirs for ours, theirs in zip(rates["millrace"], rates[base], strict=True)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=3000)
    parser.add_argument("--at-once", type=int, default=1000)
    parser.add_argument("--latency-ms", type=int, default=500, help="until the first token")
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0, help="the most for one client")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--upstream", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client is None:
        run(options)
    else:
        uvloop.run(be_client(options))
