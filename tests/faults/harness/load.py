"""Requests with all that may go wrong upstream, drawn from a seed."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer

PROVIDERS = ("openai", "anthropic", "gemini", "ollama")


@dataclass(frozen=True)
class Kind:
    """A kind of request: what it asks, and how the simulator is to treat it."""

    name: str
    share: int
    simulate: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    """To its deadline; the pipeline's own when unset."""
    ends: frozenset[str] = frozenset({"completed"})
    """How it may end."""


_VOTE = {"strategy": "ensemble", "providers": ["openai", "anthropic", "gemini"], "quorum": 2}
_OPENAI = {"providers": ["openai"]}
KINDS = (
    Kind("plain", 30, fields={"route": _OPENAI}),
    Kind("streamed", 30, "latency=150 tokens=20 pace=60", {"stream": True}),
    Kind("voted", 10, 'answer="yes" latency=100', {"route": _VOTE}),
    Kind("cut", 6, "cut=4 times=1", {"stream": True}),
    Kind("cut in good order", 4, "cut_cleanly=4 times=1", {"stream": True}),
    Kind("malformed", 4, "malformed=3 times=1", {"stream": True}),
    Kind("error in stream", 4, "error_in_stream=2 times=1", {"stream": True}),
    Kind("unavailable", 6, "http=503 times=1"),
    Kind("throttled", 3, "http=429 retry_after=1 times=1"),
    Kind("throttled for long", 3, "http=429 retry_after=3 times=1", {"route": _OPENAI}),
)
"""Every one can complete, by a further try or another provider."""

WAITING = (Kind("put off", 30, "http=429 retry_after=3 times=1", {"route": _OPENAI}),)
"""Those that go by way of the retries topic."""

UNDER_WAY = (Kind("under way", 1, "latency=1500", {"route": _OPENAI}),)
"""Some of these are always under way, and end before a drain does."""

LATE = (Kind("late", 1, fields={"route": _VOTE}, seconds=3.0, ends=frozenset({"expired"})),)
"""Nobody answers them in time, as long as no caller runs."""

ANYWHERE = (
    Kind("anywhere", 1),
    Kind("streamed anywhere", 1, "latency=150 tokens=20 pace=60", {"stream": True}),
)
"""Nothing is wrong with these but what a fault of the upstream does to them, and any provider
will do."""

PROMPT = tuple(kind for kind in KINDS if kind.name != "throttled for long")
"""Those that wait for no time that a clock tells."""

GENTLE = tuple(kind for kind in KINDS if kind.name in {"plain", "streamed", "voted"})
"""Those whose calls succeed at once, so that each is paid exactly once."""


@dataclass(frozen=True)
class Sent:
    """A request that the broker has."""

    request_id: str
    kind: str
    at: float
    stream: bool
    ends: frozenset[str]


class Load:
    """A service's producer; `sent` is what the pipeline owes an end."""

    def __init__(self, *, bootstrap_servers: str, topic: str, mark: str, seed: int) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._mark = mark
        self._seed = seed
        self._random = random.Random(f"load {seed}")
        self._producer: Any = None
        self.sent: dict[str, Sent] = {}

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            linger_ms=1,
            max_request_size=8_000_000,
            # A service that sends must outlast the longest outage of the broker.
            request_timeout_ms=150_000,
            enable_idempotence=True,
        )
        await self._producer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._producer.stop()

    def request(self, kind: Kind) -> dict[str, Any]:
        """The next request of this kind; its simulator lines bear its id as their label."""
        request_id = f"{kind.name.replace(' ', '-')}-{self._seed}-{len(self.sent)}"
        label = json.dumps(request_id)
        directive = f"[[sim:label={label}{' ' if kind.simulate else ''}{kind.simulate}]]"
        prompt = f"Tell me about mills, {self._mark}. {directive}"
        body = {"request_id": request_id, "prompt": prompt, **kind.fields}
        if kind.seconds is not None:
            body["deadline"] = (datetime.now(UTC) + timedelta(seconds=kind.seconds)).isoformat()
        return body

    async def send(
        self,
        count: int,
        *,
        kinds: Sequence[Kind] = KINDS,
        per_second: float = 0.0,
        enough: Callable[[], bool] = lambda: False,
    ) -> list[str]:
        """Send so many, drawn by their shares; returns their ids once the broker has them all.

        Those that are sent at a pace end when there have been `enough`.
        """
        chosen = self._random.choices(kinds, weights=[kind.share for kind in kinds], k=count)
        if not per_second:
            return await self._send_at_once(chosen)
        ids = []
        for kind in chosen:
            if enough():
                break
            request_id, value = self._next(kind)
            await self.send_raw(value, key=request_id.encode())
            ids.append(request_id)
            await asyncio.sleep(1 / per_second)
        return ids

    async def _send_at_once(self, chosen: Sequence[Kind]) -> list[str]:
        ready = [self._next(kind) for kind in chosen]
        await self.send_many_raw([(request_id.encode(), value) for request_id, value in ready])
        return [request_id for request_id, _ in ready]

    def _next(self, kind: Kind) -> tuple[str, bytes]:
        body = self.request(kind)
        request_id = str(body["request_id"])
        self.sent[request_id] = Sent(
            request_id, kind.name, time.time(), bool(body.get("stream")), kind.ends
        )
        return request_id, json.dumps(body).encode()

    async def send_raw(self, value: bytes | None, *, key: bytes | None) -> tuple[int, int]:
        """Send a record; returns its partition and offset once the broker has it."""
        at = await self._producer.send_and_wait(self._topic, value, key=key)
        return at.partition, at.offset

    async def send_many_raw(
        self, records: Sequence[tuple[bytes | None, bytes | None]]
    ) -> list[tuple[int, int]]:
        """Send records (key, value), pipelined; returns where each lies."""
        waits = [await self._producer.send(self._topic, value, key=key) for key, value in records]
        places = await asyncio.gather(*waits)
        return [(at.partition, at.offset) for at in places]
