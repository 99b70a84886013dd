"""Remembers beginnings of prompts, as providers do that charge less for what they saw before."""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from millrace.providers.simulator.call import SimulatedCall
from millrace.providers.simulator.tokens import split_tokens

BLOCK_TOKENS: Final = 128
"""Cached beginnings are whole numbers of blocks."""
LEAST_TOKENS: Final = 1024
"""Shorter beginnings are not cached."""
_BLOCKS: Final = 65_536


class PromptCache:
    """Knows which beginnings an instance's model has seen; the least recently seen go first."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def lookup(self, call: SimulatedCall) -> tuple[int, int]:
        """How many tokens were cached, and how many are from now on besides; remembers them."""
        tokens: list[str] = []
        for turn in call.turns:
            tokens += split_tokens(turn.text)
        if len(tokens) < LEAST_TOKENS:
            return 0, 0
        digest = f"{call.instance}\x1f{call.model}".encode()
        hit, known = 0, True
        end = 0
        for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
            digest = _digest(digest, tokens[end - BLOCK_TOKENS : end])
            known = known and digest in self._seen
            if known:
                hit = end
            self._seen[digest] = None
            self._seen.move_to_end(digest)
        while len(self._seen) > _BLOCKS:
            self._seen.popitem(last=False)
        hit = hit if hit >= LEAST_TOKENS else 0
        return hit, end - hit


def _digest(before: bytes, block: Sequence[str]) -> bytes:
    return blake2b(
        before + "".join(block).encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()
