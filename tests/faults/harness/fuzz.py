"""Inputs for the requests topic that no client should send, drawn from a seed."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from harness.cluster import PROMPT_MARK, Cluster
from harness.fuzz_verdict import Following, Seen
from harness.load import Kind, Load

_TEXTS = (
    "",
    " ",
    "\u0000",
    "\ud7ff",
    "\U0001f600" * 20,
    "{{ x }}",
    "%s%n",
    "../../etc",
    "NaN",
    "\r\n",
)
_NUMBERS = (0, -1, 1e308, -0.0, 2**63, -(2**63), 10**30, 0.1)
_EXTREMES: tuple[tuple[str, Any], ...] = (
    ("route", {"strategy": "ensemble", "members": 2, "member_timeout_s": 1e300}),
    ("route", {"strategy": "ensemble", "members": 2, "member_timeout_s": 5e-324}),
    ("route", {"strategy": "cascade", "min_tier": 2**62, "thresholds": [0.0, 1.0]}),
    ("route", {"strategy": "ensemble", "mode": "weighted", "weights": {"gpt-4.1-mini": 1e308}}),
    ("route", {"max_latency_s": 1e300}),
    ("route", {"max_cost_usd": "1e300"}),
    ("route", {"max_cost_usd": "1e-300"}),
    ("route", {"max_cost_usd": "-0"}),
    ("parameters", {"seed": 2**63}),
    ("parameters", {"seed": 10**30}),
    ("parameters", {"max_output_tokens": 2**62}),
    ("parameters", {"max_output_tokens": 2**31}),
    ("parameters", {"temperature": 5e-324, "top_p": 5e-324}),
    ("parameters", {"stop": [""] * 100}),
    ("output", {"rules": {"min_chars": 2**62}}),
    ("output", {"rules": {"must_match": ["(((((a*)*)*)*)*)*$"]}}),
    ("output", {"format": "json", "schema": {"$ref": "#"}}),
    ("output", {"format": "json", "schema": {"type": "object", "required": ["a"] * 3_000}}),
    ("deadline", "9999-12-31T23:59:59.999999Z"),
    ("deadline", "9999-12-31T23:59:59-14:00"),
    ("deadline", "0001-01-01T00:00:00+14:00"),
    ("deadline", 253_402_300_799),
    ("messages", [{"role": "user", "content": [{"type": "text", "text": "x"}] * 1_000}]),
    ("tags", {"\u0000": "\u0000", "": ""}),
    ("team", "t" * 200),
    ("stream", True),
)
"""Each may stand where it stands, or nearly."""
_FIELDS = (
    "prompt",
    "messages",
    "task",
    "team",
    "conversation_id",
    "template",
    "variables",
    "route",
    "parameters",
    "output",
    "deadline",
    "stream",
    "reply_to",
    "tags",
    "tools",
)
NEIGHBOURS = (Kind("neighbour", 1, "latency=400 tokens=5", {"route": {"providers": ["openai"]}}),)
"""Their time is the model's, so that a pipeline that is held up shows."""


@dataclass(frozen=True)
class FuzzInput:
    """A record for the requests topic."""

    key: bytes | None
    value: bytes | None
    request_id: str
    """Under which it ends, if it should be taken after all."""


def inputs(count: int, *, seed: int) -> Iterator[FuzzInput]:
    """So many inputs; the same for the same seed. No two have the same value."""
    draw = random.Random(f"fuzz {seed}")
    for number in range(count):
        request_id = f"fuzz-{seed}-{number}"
        value = draw.choice(_WAYS)(draw, request_id)
        key = draw.choice((None, request_id.encode(), b"", draw.randbytes(draw.randint(1, 40))))
        yield FuzzInput(key, value, request_id)


def _noise(draw: random.Random, request_id: str) -> bytes:
    return request_id.encode() + draw.randbytes(draw.randint(1, 400))


def _cut_short(draw: random.Random, request_id: str) -> bytes:
    whole = json.dumps(_request(request_id)).encode()
    return whole[: draw.randint(len(request_id) + 20, len(whole) - 1)]


def _flipped(draw: random.Random, request_id: str) -> bytes:
    whole = bytearray(json.dumps(_request(request_id)).encode())
    start = whole.index(b"prompt")
    for _ in range(draw.randint(1, 4)):
        whole[draw.randrange(start, len(whole))] = draw.randrange(256)
    return bytes(whole)


def _scalar(draw: random.Random, request_id: str) -> bytes:
    inner = draw.choice(([request_id], request_id, [[request_id]], {"x": [request_id]}))
    return json.dumps(inner).encode()


def _wrong_field(draw: random.Random, request_id: str) -> bytes:
    body = _request(request_id)
    for _ in range(draw.randint(1, 3)):
        body[draw.choice(_FIELDS)] = _anything(draw, 0)
    return json.dumps(body).encode()


def _unknown_field(draw: random.Random, request_id: str) -> bytes:
    body = _request(request_id)
    body[draw.choice(("promt", "Prompt", "__proto__", "", "model"))] = _anything(draw, 0)
    return json.dumps(body).encode()


def _deep(draw: random.Random, request_id: str) -> bytes:
    depth = draw.choice((100, 1_000, 20_000))
    opened, closed = draw.choice(((b"[", b"]"), (b'{"a":', b"}")))
    head = b'{"request_id":"%s","prompt":"x","variables":' % request_id.encode()
    return head + opened * depth + b"1" + closed * depth + b"}"


def _no_utf8(draw: random.Random, request_id: str) -> bytes:
    bad = draw.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"))
    return b'{"request_id":"%s","prompt":"%s"}' % (request_id.encode(), bad)


def _odd_json(draw: random.Random, request_id: str) -> bytes:
    name = request_id.encode()
    return draw.choice(
        (
            b"\xef\xbb\xbf" + json.dumps(_request(request_id)).encode(),
            b'{"request_id":"%s","prompt":NaN}' % name,
            b'{"request_id":"%s","prompt":"a","prompt":"b"}' % name,
            b'{"request_id":"%s","prompt":"\\ud800"}' % name,
            b'{"request_id":"%s","prompt":"a"}{"prompt":"b"}' % name,
            b'{"request_id":"%s","prompt":"a",}' % name,
            b'{"request_id":"%s","request_id":7,"prompt":"a"}' % name,
            b"{'request_id':'%s'}" % name,
        )
    )


def _long(draw: random.Random, request_id: str) -> bytes:
    body = _request(request_id)
    body["tags"] = {"x" * draw.choice((10, 300, 5_000)): "y" * draw.choice((1, 5_000))}
    return json.dumps(body).encode()


def _extreme(draw: random.Random, request_id: str) -> bytes:
    body = _request(request_id)
    for name, value in draw.sample(_EXTREMES, draw.choice((1, 1, 2, 3))):
        body[name] = value
    if "messages" in body:
        del body["prompt"]
        body["tags"] = {"id": request_id}
    return json.dumps(body).encode()


def _bad_id(draw: random.Random, request_id: str) -> bytes:
    body = _request(request_id)
    body["request_id"] = draw.choice(
        (7, None, [], {}, "", " ", "a/b" * 200, "\u0000", True, "x" * 10_000)
    )
    body["prompt"] = request_id
    body["nonsense"] = 1
    return json.dumps(body).encode()


_WAYS: tuple[Callable[[random.Random, str], bytes], ...] = (
    _noise,
    _cut_short,
    _flipped,
    _scalar,
    _wrong_field,
    _wrong_field,
    _wrong_field,
    _unknown_field,
    _deep,
    _no_utf8,
    _odd_json,
    _long,
    _bad_id,
    _extreme,
)


def _request(request_id: str) -> dict[str, Any]:
    return {"request_id": request_id, "prompt": "Tell me about mills."}


def _anything(draw: random.Random, depth: int) -> Any:
    match draw.randrange(7 if depth < 3 else 4):
        case 0:
            return draw.choice(_TEXTS)
        case 1:
            return draw.choice(_NUMBERS)
        case 2:
            return draw.choice((None, True, False))
        case 3:
            return draw.choice(_FIELDS)
        case 4:
            return [_anything(draw, depth + 1) for _ in range(draw.randint(0, 3))]
        case _:
            return {
                draw.choice((*_FIELDS, *_TEXTS)): _anything(draw, depth + 1)
                for _ in range(draw.randint(0, 3))
            }


@dataclass(frozen=True)
class FuzzResult:
    """What became of the inputs, and of the requests beside them."""

    inputs: int
    dead: int
    taken: int
    wrong: list[str]
    per_second: float
    """Inputs dealt with, while they came without a pause."""
    alone_ms: tuple[float, ...]
    """What neighbours took while nothing else came, ascending."""
    beside_ms: tuple[float, ...]
    """And while bad input came at a steady pace."""

    @property
    def p99_alone_ms(self) -> float:
        """The 99th percentile of those without bad input."""
        return _p99(self.alone_ms)

    @property
    def p99_beside_ms(self) -> float:
        """The 99th percentile of those beside it."""
        return _p99(self.beside_ms)

    @property
    def ratio(self) -> float:
        """How much slower the neighbours' slowest were."""
        return self.p99_beside_ms / self.p99_alone_ms


async def fuzz(
    cluster: Cluster,
    count: int,
    *,
    seed: int,
    paced: int = 1_500,
    per_second: float = 150.0,
    neighbours_per_second: float = 50.0,
    phase_seconds: float = 2.5,
    say: Callable[[str], None] = lambda _: None,
) -> FuzzResult:
    """Send inputs, with good requests beside them, and see what becomes of each.

    The first `paced` come in phases, with others without bad input between them, so that what
    else the machine does meets both alike; the rest as quickly as they are dealt with.

    Raises:
        AssertionError: A neighbour has no good end, or an input none at all.
    """
    seen = Seen(seed)
    given = inputs(count, seed=seed)
    size = round(per_second * phase_seconds)
    steady = (round(neighbours_per_second * phase_seconds), neighbours_per_second)
    without: list[float] = []
    beside: list[float] = []
    servers = cluster.bootstrap_servers
    async with (
        Load(
            bootstrap_servers=servers,
            topic=cluster.topic("requests"),
            mark=PROMPT_MARK,
            seed=seed,
        ) as load,
        Following(cluster, seen) as following,
    ):
        # What is slow once is slow for nobody's fault.
        await _neighbours(load, following, *steady)
        for _ in range(0, min(paced, count), size):
            without += await _neighbours(load, following, *steady)
            batch = list(islice(given, size))
            sending = asyncio.create_task(_send(load, seen, batch, per_second))
            beside += await _neighbours(load, following, *steady)
            await sending
        began, rest = time.monotonic(), count - seen.sent
        while batch := list(islice(given, _AT_ONCE)):
            await following.until(lambda: seen.open <= _AHEAD, "inputs to be dealt with")
            await _send(load, seen, batch)
            if not seen.sent % (20 * _AT_ONCE):
                await _neighbours(load, following, *steady)
                say(f"{seen.sent} sent, {seen.dead} set aside, {seen.taken} taken")
        await following.until(lambda: not seen.open, "the last inputs to be dealt with")
        took = time.monotonic() - began
        await following.caught_up()
    return FuzzResult(
        inputs=count,
        dead=seen.dead,
        taken=seen.taken,
        wrong=seen.verdict(),
        per_second=rest / took,
        alone_ms=tuple(sorted(without)),
        beside_ms=tuple(sorted(beside)),
    )


_AT_ONCE = 250
_AHEAD = 2_000
"""Inputs that may be under way, when they come without a pause."""


async def _send(
    load: Load, seen: "Seen", given: list[FuzzInput], per_second: float | None = None
) -> None:
    size = len(given) if per_second is None else max(1, round(per_second / 10))
    for at in range(0, len(given), size):
        batch = given[at : at + size]
        for each in batch:
            seen.expect(key=each.key, value=each.value, request_id=each.request_id)
        await load.send_many_raw([(each.key, each.value) for each in batch])
        if per_second is not None:
            await asyncio.sleep(size / per_second)


async def _neighbours(
    load: Load, following: "Following", count: int, per_second: float
) -> list[float]:
    """Send good requests at a pace; returns what each took, in ms."""
    ids = await load.send(count, kinds=NEIGHBOURS, per_second=per_second)
    ended = following.seen.neighbours
    await following.until(lambda: all(each in ended for each in ids), "neighbours' ends")
    for each in ids:
        status, _ = ended[each]
        assert status == "completed", f"{each} ended as {status}"
    return [ended[each][1] - load.sent[each].at * 1000 for each in ids]


def _p99(times: tuple[float, ...]) -> float:
    return times[min(len(times) - 1, int(len(times) * 0.99))]
