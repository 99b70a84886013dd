"""The simulator's vectors: the same for equal texts, near each other for similar ones.

Each word, and each run of three letters within it, points into a direction that its hash gives;
a text's vector is the sum of these, brought to length 1. So the cosine of two texts grows with
what they have in common. They mean nothing beyond that.
"""

import math
import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from millrace.providers.simulator.call import SimulatedCall

DIMENSIONS: Final = 256
"""The length of a vector unless the request says otherwise."""

_WORD: Final = re.compile(r"\w+|[^\w\s]")
_LETTERS: Final = 3
_WORD_WEIGHT: Final = 2.0
_AXES: Final = 4
"""In how many places of the vector a feature shows; more would blur, fewer would collide."""


def embed_texts(call: SimulatedCall) -> tuple[tuple[float, ...], ...]:
    """The vector of each turn of the call."""
    dimensions = call.dimensions or DIMENSIONS
    return tuple(embed_text(turn.text, dimensions) for turn in call.turns)


@lru_cache(maxsize=4096)
def embed_text(text: str, dimensions: int = DIMENSIONS) -> tuple[float, ...]:
    """The vector of a text, of length 1; upper and lower case are the same."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or ("",):
        _add(vector, word, _WORD_WEIGHT)
        padded = f"<{word}>"
        for start in range(len(padded) - _LETTERS + 1):
            _add(vector, padded[start : start + _LETTERS], 1.0)
    length = math.hypot(*vector)
    if not length:
        # Features that cancel each other out: possible only in very short vectors.
        return (1.0, *vector[1:])
    return tuple(part / length for part in vector)


def _add(vector: list[float], feature: str, weight: float) -> None:
    digest = blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=4 * _AXES).digest()
    for start in range(0, 4 * _AXES, 4):
        drawn = int.from_bytes(digest[start : start + 4], "big")
        vector[(drawn >> 1) % len(vector)] += weight if drawn & 1 else -weight
