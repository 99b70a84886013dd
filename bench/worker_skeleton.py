"""The hops of the pipeline in raw aiokafka, without its promises: the least that it can cost.

requests → calls → [streamed HTTP call] → chunks and an outcome → responses. No ids are
remembered, nothing is checked, booked, priced or timed, and offsets are committed by the clock.
Chunks are gathered as in the pipeline: the first token at once, the rest in a window.
"""

import argparse
import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener

from bench.children import say_ready, until_stdin_closes
from bench.streamed_call import deltas, session

HEADERS = [("schema", b"bench"), ("schema-version", b"1")]
KINDS = ("requests", "calls", "chunks", "outcomes", "responses")


class Skeleton:
    """Three loops in one process, as the pipeline's roles would be."""

    def __init__(
        self,
        *,
        upstream: str,
        in_flight: int,
        topics: dict[str, str],
        producer: AIOKafkaProducer,
        http: aiohttp.ClientSession,
    ) -> None:
        self._upstream = upstream
        self._topics = topics
        self._producer = producer
        self._http = http
        self._places = asyncio.Semaphore(in_flight)
        self._tasks: set[asyncio.Task[None]] = set()

    async def route(self, consumer: AIOKafkaConsumer) -> None:
        """From requests to calls."""
        async for record in consumer:
            request = orjson.loads(record.value)
            call = {
                "request_id": request["request_id"],
                "provider": "bench",
                "model": "gpt-4.1-mini",
                "messages": [{"role": "user", "content": request["prompt"]}],
            }
            await self._send("calls", record.key, call)

    async def make_calls(self, consumer: AIOKafkaConsumer) -> None:
        """From calls to chunks and outcomes, many at once."""
        async for record in consumer:
            await self._places.acquire()
            task = asyncio.create_task(self._make(record.key, orjson.loads(record.value)))
            self._tasks.add(task)
            task.add_done_callback(self._made)

    async def respond(self, consumer: AIOKafkaConsumer) -> None:
        """From outcomes to responses."""
        async for record in consumer:
            outcome = orjson.loads(record.value)
            response = {**outcome["call"], "status": "completed", "text": outcome["text"]}
            await self._send("responses", record.key, response)

    async def _make(self, key: bytes, call: dict[str, Any]) -> None:
        text: list[str] = []
        prompt = call["messages"][0]["content"]
        sent: list[asyncio.Future[Any]] = []
        async for delta in deltas(self._http, self._upstream, prompt):
            text.append(delta)
            if len(text) == 1:
                sent.append(await self._send("chunks", key, _chunk(call, 0, delta, None)))
        rest = _chunk(call, 1, "".join(text[1:]), "stop")
        sent.append(await self._send("chunks", key, rest))
        sent.append(await self._send("outcomes", key, {"call": call, "text": "".join(text)}))
        await asyncio.gather(*sent)

    def _made(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._places.release()
        task.result()

    async def _send(self, kind: str, key: bytes, value: dict[str, Any]) -> "asyncio.Future[Any]":
        sent: asyncio.Future[Any] = await self._producer.send(
            self._topics[kind], orjson.dumps(value), key=key, headers=HEADERS
        )
        return sent


def _chunk(call: dict[str, Any], sequence: int, delta: str, end: str | None) -> dict[str, Any]:
    return {
        "request_id": call["request_id"],
        "sequence": sequence,
        "delta": delta,
        "provider": call["provider"],
        "model": call["model"],
        "end": end,
    }


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing is kept for a partition."""

    async def on_partitions_assigned(self, _: Any) -> None:
        self.event.set()


async def run(given: argparse.Namespace) -> None:
    topics = {kind: f"{given.name}.{kind}" for kind in KINDS}
    async with AsyncExitStack() as stack:
        producer = AIOKafkaProducer(
            bootstrap_servers=given.bootstrap,
            acks="all",
            enable_idempotence=True,
            # As the pipeline's own defaults: no compression.
            linger_ms=2,
            max_batch_size=512 * 1024,
        )
        await producer.start()
        stack.push_async_callback(producer.stop)
        http = await stack.enter_async_context(session())
        skeleton = Skeleton(
            upstream=given.upstream,
            in_flight=given.in_flight,
            topics=topics,
            producer=producer,
            http=http,
        )
        loops = {
            "requests": skeleton.route,
            "calls": skeleton.make_calls,
            "outcomes": skeleton.respond,
        }
        tasks = []
        for kind, loop in loops.items():
            consumer = AIOKafkaConsumer(
                bootstrap_servers=given.bootstrap,
                group_id=f"{given.name}-{kind}",
                auto_offset_reset="earliest",
            )
            assigned = _Assigned()
            await consumer.start()
            stack.push_async_callback(consumer.stop)
            consumer.subscribe([topics[kind]], listener=assigned)
            tasks.append(asyncio.create_task(loop(consumer)))
            await assigned.event.wait()
        say_ready(**topics)
        await until_stdin_closes()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--in-flight", type=int, default=256)
    uvloop.run(run(parser.parse_args()))
