"""How alike two texts are, by their wording or by vectors of them; the same everywhere."""

from collections import Counter
from math import sqrt

from millrace.agents.normalise import normalised
from millrace.schemas.embedding import Vector

MAX_CHARS = 20_000
"""Of each text; what comes after is not compared."""

_GRAM = 3


def shingles(text: str) -> Counter[str]:
    """The pieces of three characters in a text's normalised form, with a space at either end."""
    bare = f" {normalised(text)[:MAX_CHARS]} "
    return Counter(bare[at : at + _GRAM] for at in range(max(1, len(bare) - _GRAM + 1)))


def likeness(one: Counter[str], other: Counter[str]) -> float:
    """The share of pieces that two texts have in common (Dice's coefficient), from 0 to 1."""
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


def cosine(one: Vector, other: Vector) -> float:
    """The cosine of two vectors of one length, to nine digits and at least 0.

    1 is the same direction. A vector of zeros has none, nor has one that is too long for a
    float: they are like nothing.
    """
    lengths = sqrt(sum(x * x for x in one)) * sqrt(sum(y * y for y in other))
    if not lengths:
        return 0.0
    found = sum(x * y for x, y in zip(one, other, strict=True)) / lengths
    return min(1.0, round(found, 9)) if found > 0 else 0.0
