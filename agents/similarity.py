"""How alike two texts are, without a model: in linear time, and the same everywhere."""

from collections import Counter

from millrace.agents.normalise import normalised

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
