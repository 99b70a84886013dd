"""Finds the answer that most members of an ensemble gave."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.agents.canonical import canonical
from millrace.agents.normalise import normalised
from millrace.agents.similarity import cosine, likeness, shingles
from millrace.schemas.call import VoteRule
from millrace.schemas.embedding import Vector
from millrace.schemas.errors import PipelineError

NORMALIZED = VoteRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """How a vote went."""

    winner: int
    """The lowest member of the weightiest group: its answer stands for the group."""
    agreeing: tuple[int, ...]
    """The members of that group, the winner among them, in order."""
    dissenting: tuple[int, ...]
    """All others, in order."""
    agreement: float
    """The share of all weight that the group has."""


def vote(
    answers: Mapping[int, str],
    *,
    data: Mapping[int, Any],
    rule: VoteRule = NORMALIZED,
    weights: Mapping[int, float] | None = None,
    vectors: Mapping[int, Vector] | None = None,
) -> Ballot:
    """Find the answer with the most weight behind it; every member weighs 1 without `weights`.

    `answers` holds each member's text, `data` the parsed answer of those who answered in JSON.
    Which answers are the same is for the rule to say:

    - `exact`: the same text, or the same JSON value;
    - `normalized`: the same JSON value, or the same text in its `normalised` form;
    - `field`: the same value of one field of the JSON; answers without it stand alone;
    - `similarity`: texts that are alike in their wording, directly or by way of others;
    - `embedding`: the same by the cosine of their `vectors`, or by wording where there are none.

    Between groups of the same weight the one with the lowest member wins. The order of the
    mappings does not matter.

    Raises:
        PipelineError: There is no answer to vote on.
    """
    if not answers:
        raise PipelineError("a vote needs at least one answer")
    groups = (
        _alike(_likeness(answers, rule, vectors), sorted(answers), rule.similarity)
        if rule.by in {"similarity", "embedding"}
        else _equal(answers, data, rule)
    )
    shares = weights or {}

    def weight(group: list[int]) -> float:
        return sum(shares.get(member, 1.0) for member in group)

    # max keeps the first of equals, and groups stand in the order of their lowest members.
    winners = max(groups, key=weight)
    return Ballot(
        winner=winners[0],
        agreeing=tuple(winners),
        dissenting=tuple(sorted(answers.keys() - set(winners))),
        agreement=round(weight(winners) / weight(sorted(answers)), 6),
    )


def _equal(answers: Mapping[int, str], data: Mapping[int, Any], rule: VoteRule) -> list[list[int]]:
    spell: Callable[[str], str] = str if rule.by == "exact" else normalised
    groups: dict[Hashable, list[int]] = {}
    for member in sorted(answers):
        value = data.get(member)
        key: Hashable
        if rule.field is not None:
            found, value = _field(value, rule.field)
            # An answer without the field agrees with nobody.
            key = canonical(value) if found else member
        else:
            # The one is text and the other bytes, so that they are never taken for each other.
            key = spell(answers[member]) if value is None else canonical(value)
        groups.setdefault(key, []).append(member)
    return list(groups.values())


def _field(value: Any, path: str) -> tuple[bool, Any]:
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]
    return True, value


def _likeness(
    answers: Mapping[int, str], rule: VoteRule, vectors: Mapping[int, Vector] | None
) -> Callable[[int, int], float]:
    """How alike two members' answers are, from 0 to 1."""
    if rule.by == "embedding" and vectors is not None:
        known = vectors
        return lambda one, other: cosine(known[one], known[other])
    pieces = {member: shingles(text) for member, text in answers.items()}
    return lambda one, other: likeness(pieces[one], pieces[other])


def _alike(
    likeness_of: Callable[[int, int], float], members: Sequence[int], least: float
) -> list[list[int]]:
    """Groups in which each is alike to one at least: the same whatever the order."""
    groups: list[list[int]] = []
    for member in members:
        near = [
            group for group in groups if any(likeness_of(member, each) >= least for each in group)
        ]
        joined = sorted([member, *(other for group in near for other in group)])
        groups = [group for group in groups if group not in near] + [joined]
    return sorted(groups)
