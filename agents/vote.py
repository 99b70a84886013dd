"""Finds the answer that most members of an ensemble gave, whatever its outward form."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.agents.canonical import canonical
from millrace.schemas.errors import PipelineError

_EMPHASIS = re.compile(r"(?<!\w)[*_`]+(?=\S)|(?<=\S)[*_`]+(?!\w)")
_TRAILING = " .,;:!?。、"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """How a vote went."""

    winner: int
    """The lowest member of the largest group of equal answers: its answer stands for the group."""
    agreeing: tuple[int, ...]
    """The members of that group, the winner among them, in order."""
    dissenting: tuple[int, ...]
    """All others, in order."""


def vote(answers: Mapping[int, str], *, data: Mapping[int, Any]) -> Ballot:
    """Find the answer that most members gave.

    `answers` holds each member's text, `data` the parsed answer of those who answered in JSON.
    Parsed answers are compared by value, those without one (or with None) by `normalised` text.
    Between groups of the same size the one with the lowest member wins. The order of the
    mappings does not matter.

    Raises:
        PipelineError: There is no answer to vote on.
    """
    groups: dict[str | bytes, list[int]] = {}
    for member in sorted(answers):
        value = data.get(member)
        # The one is text and the other bytes, so that they are never taken for each other.
        key = normalised(answers[member]) if value is None else canonical(value)
        groups.setdefault(key, []).append(member)
    if not groups:
        raise PipelineError("a vote needs at least one answer")
    # max keeps the first of equals, and groups stand in the order of their lowest members.
    winners = max(groups.values(), key=len)
    return Ballot(
        winner=winners[0],
        agreeing=tuple(winners),
        dissenting=tuple(sorted(answers.keys() - set(winners))),
    )


def normalised(text: str) -> str:
    """Take off what does not change an answer.

    Compatibility forms (Unicode NFKC), case, white space, Markdown emphasis and trailing
    punctuation; a text of nothing but these keeps its punctuation.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    bare = " ".join(_EMPHASIS.sub("", folded).split())
    return bare.rstrip(_TRAILING) or bare
