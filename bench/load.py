"""Requests for the programs that are measured, and what comes back, seen from outside."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.streamed_call import deltas, session

POLL_SECONDS = 0.02
PROMPT = "Say something about stream {number}. [[sim:tokens={tokens}]]"


class LostRequestsError(Exception):
    """Not every request came back, or not as completed."""


class Load:
    """A client of the broker: writes requests, counts and reads what comes of them."""

    def __init__(self, bootstrap_servers: str, *, tokens: int) -> None:
        self._servers = bootstrap_servers
        self._tokens = tokens
        self._stack = AsyncExitStack()
        self._sent = 0

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(bootstrap_servers=self._servers, linger_ms=1)
        await self._producer.start()
        self._stack.push_async_callback(self._producer.stop)
        self._reader = AIOKafkaConsumer(
            bootstrap_servers=self._servers, auto_offset_reset="earliest", fetch_max_wait_ms=50
        )
        await self._reader.start()
        self._stack.push_async_callback(self._reader.stop)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def request(self) -> tuple[bytes, bytes]:
        """The next request: its key and its value."""
        number, self._sent = self._sent, self._sent + 1
        key = f"request-{number:08}"
        prompt = PROMPT.format(number=number, tokens=self._tokens)
        return key.encode(), orjson.dumps({"request_id": key, "prompt": prompt, "stream": True})

    async def send(self, topic: str) -> str:
        """Send one request; returns its id once the broker has it."""
        key, value = self.request()
        await self.send_raw(topic, key, value)
        return key.decode()

    async def send_raw(self, topic: str, key: bytes, value: bytes) -> None:
        """Send a record; returns once the broker has it."""
        await self._producer.send_and_wait(topic, value, key=key)

    async def burst(self, topic: str, responses: str, count: int, *, seconds: float) -> float:
        """Send so many requests at once; returns how long it took until all had responses.

        Raises:
            TimeoutError: They were not there in time.
        """
        await self._producer.partitions_for(topic)
        goal = await self.written(responses) + count
        ready = [self.request() for _ in range(count)]
        start = time.perf_counter()
        async with asyncio.timeout(seconds):
            for key, value in ready:
                await self._producer.send(topic, value, key=key)
            await self.wait_until_written(responses, goal)
        return time.perf_counter() - start

    async def written(self, topic: str) -> int:
        """How many records a topic has taken."""
        ends = await self._reader.end_offsets(await self._partitions(topic))
        return sum(ends.values())

    async def wait_until_written(self, topic: str, count: int) -> None:
        """Return once a topic has taken so many records."""
        while await self.written(topic) < count:  # noqa: ASYNC110 (the broker tells nobody)
            await asyncio.sleep(POLL_SECONDS)

    async def check_completed(self, responses: str, *, expected: int) -> None:
        """Read all responses and see that each request completed, once.

        Raises:
            LostRequestsError: Some did not.
        """
        ids: set[str] = set()
        read = 0
        async for value in self.read(responses):
            read += 1
            body = orjson.loads(value)
            if body["status"] == "completed" and body["text"]:
                ids.add(body["request_id"])
        if not len(ids) == read == expected:
            raise LostRequestsError(
                f"{responses}: {read} responses, {len(ids)} requests completed, {expected} sent"
            )

    async def read(self, topic: str) -> Any:
        """Yield the values of every record that a topic holds now."""
        partitions = await self._partitions(topic)
        ends = await self._reader.end_offsets(partitions)
        self._reader.assign(partitions)
        await self._reader.seek_to_beginning(*partitions)
        left = sum(ends.values())
        while left > 0:
            for records in (await self._reader.getmany(timeout_ms=200)).values():
                left -= len(records)
                for record in records:
                    yield record.value

    async def first_tokens(
        self, topic: str, chunks: str, *, count: int, per_second: float
    ) -> list[float]:
        """Send requests at a pace; returns the seconds from each to its first token."""
        reader = AIOKafkaConsumer(bootstrap_servers=self._servers, auto_offset_reset="latest")
        await reader.start()
        try:
            reader.assign(await self._partitions(chunks))
            await reader.seek_to_end()
            sent: dict[str, float] = {}
            seen: dict[str, float] = {}
            sending = asyncio.create_task(self._send_paced(topic, sent, count, per_second))
            async with asyncio.timeout(30 + count / per_second):
                while len(seen) < count:
                    for records in (await reader.getmany(timeout_ms=200)).values():
                        now = time.perf_counter()
                        for record in records:
                            seen.setdefault(orjson.loads(record.value)["request_id"], now)
            await sending
        finally:
            await reader.stop()
        return [seen[request_id] - at for request_id, at in sent.items()]

    async def _send_paced(
        self, topic: str, sent: dict[str, float], count: int, per_second: float
    ) -> None:
        for _ in range(count):
            key, value = self.request()
            sent[key.decode()] = time.perf_counter()
            await self._producer.send(topic, value, key=key)
            await asyncio.sleep(1 / per_second)

    async def _partitions(self, topic: str) -> Sequence[TopicPartition]:
        numbers = await self._producer.partitions_for(topic)
        return [TopicPartition(topic, number) for number in sorted(numbers)]


async def direct_first_tokens(
    upstream: str, prompt: str, *, count: int, per_second: float
) -> list[float]:
    """The same calls without a broker: the seconds from asking to the first token."""

    async def ask() -> float:
        start = time.perf_counter()
        first = 0.0
        async for _ in deltas(http, upstream, prompt):
            first = first or time.perf_counter() - start
        return first

    async with session() as http:
        tasks = []
        for _ in range(count):
            tasks.append(asyncio.create_task(ask()))
            await asyncio.sleep(1 / per_second)
        return await asyncio.gather(*tasks)
