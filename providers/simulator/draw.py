"""Choices that look free and are the same whenever the same things are asked."""

import random
from hashlib import blake2b

_SPAN = float(1 << 64)


def number(*parts: object) -> int:
    """A number of 64 bits that depends on the parts only, in this and any other process."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def share(*parts: object) -> float:
    """A number from 0 up to 1, likewise."""
    return number(*parts) / _SPAN


def stream(*parts: object) -> random.Random:
    """A source of many such numbers."""
    return random.Random(number(*parts))  # noqa: S311 -- has to be repeatable, guards nothing
