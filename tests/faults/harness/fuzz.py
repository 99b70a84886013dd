"""Inputs for the requests topic that no client should send, drawn from a seed."""

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.load import Kind
from harness.setting import Setting
from harness.tape import Tape

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
    request_id: str | None
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
    alone_ms: tuple[float, ...]
    """What neighbours took while nothing else came, ascending."""
    beside_ms: tuple[float, ...]

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
    setting: Setting,
    count: int,
    *,
    seed: int,
    per_second: float = 150.0,
    neighbours_per_second: float = 50.0,
    phase_seconds: float = 5.0,
    alone: int = 3_000,
) -> FuzzResult:
    """Send inputs, with good requests beside them, and see what becomes of each.

    Phases with bad input and without follow each other, so that what else the machine does
    meets both alike, until so many neighbours were `alone`; then bad input comes without a pause.

    Raises:
        AssertionError: A neighbour has no end.
    """
    given = list(inputs(count, seed=seed))
    size = round(per_second * phase_seconds)
    neighbours = round(neighbours_per_second * phase_seconds)
    without: list[float] = []
    beside: list[float] = []
    # What is slow once is slow for nobody's fault.
    await _neighbours(setting, neighbours, neighbours_per_second)
    for at in range(0, count, size):
        if len(without) < alone:
            without += await _neighbours(setting, neighbours, neighbours_per_second)
        sending = asyncio.create_task(_send(setting, given[at : at + size], per_second))
        beside += await _neighbours(setting, neighbours, neighbours_per_second)
        await sending
    await setting.watch.until_no_lag(seconds=120)
    await setting.tape.caught_up()
    dead, taken, wrong = judge(setting.tape, given)
    return FuzzResult(count, dead, taken, wrong, tuple(sorted(without)), tuple(sorted(beside)))


def judge(tape: Tape, given: list[FuzzInput]) -> tuple[int, int, list[str]]:
    """How many were set aside byte for byte, how many taken, and what is wrong with the rest."""
    letters: Counter[bytes | None] = Counter()
    wrong = []
    for entry in tape.entries["dead-letters"]:
        letters[_bytes(entry.body.get("value"))] += 1
        if entry.body["error"]["code"] == "internal_error":
            wrong.append(f"a fault of ours for the record at {entry.body['offset']}")
    dead = taken = 0
    for each in given:
        ends = tape.ends.get(each.request_id or "", [])
        accepted = any(end["status"] != "rejected" for end in ends)
        if letters[each.value] == 1 and not accepted:
            dead += 1
        elif letters[each.value] == 0 and accepted:
            taken += 1
        else:
            wrong.append(
                f"{(each.value or b'')[:80]!r}: {letters[each.value]} dead letters, "
                f"ends {[end['status'] for end in ends]}"
            )
    return dead, taken, wrong


async def _send(setting: Setting, given: list[FuzzInput], per_second: float) -> None:
    size = max(1, round(per_second / 10))
    for at in range(0, len(given), size):
        await setting.load.send_many_raw([(each.key, each.value) for each in given[at : at + size]])
        await asyncio.sleep(0.1)


async def _neighbours(setting: Setting, count: int, per_second: float) -> list[float]:
    """Send good requests at a pace; returns what each took, in ms."""
    ids = await setting.load.send(count, kinds=NEIGHBOURS, per_second=per_second)
    await setting.settled(ids)
    return [setting.tape.ended_at_ms[each] - setting.load.sent[each].at * 1000 for each in ids]


def _p99(times: tuple[float, ...]) -> float:
    return times[min(len(times) - 1, int(len(times) * 0.99))]


def _bytes(blob: dict[str, str] | None) -> bytes | None:
    if blob is None:
        return None
    if blob["encoding"] == "base64":
        return base64.b64decode(blob["content"])
    return blob["content"].encode()
