"""The simulator's tokenizer: a simple rule that anyone can count by hand.

A token is a run of letters, digits and underscores, or one other character, each with the
white space before it; white space at the very end is a token of its own, and so is the mark of
simulation. Joined, the tokens give the text back.
"""

import re

MARK = "[simulated]"
"""Stands in every answer that the simulator thinks up itself."""

_TOKEN = re.compile(r"\s*(?:\[simulated\]|\w+|[^\w\s])|\s+")


def split_tokens(text: str) -> list[str]:
    """Cut a text into tokens."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens a text has."""
    return len(_TOKEN.findall(text))
