"""Puts models that are not well behind those that are, without leaving any out."""

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.agents.health import HealthOf, ModelHealth
from millrace.agents.offers import Offer

NOISE = 0.2
"""A penalty below it is an everyday one."""

_PENALTIES = (NOISE, 0.5, 1.0)
"""Where a penalty begins to count for more."""
_LEAST_QUEUE = 64
_ROUNDS = 2
"""A queue is no reason to go elsewhere while it is worked off in so many rounds of the calls
that are under way."""
_LONG_QUEUE = 10
"""So many times that is a long one."""

_Rank = tuple[bool, int, int]
_WELL: _Rank = (False, 0, 0)


@dataclass(frozen=True, slots=True)
class Ordered:
    """Offers in the order in which they are to be asked."""

    offers: tuple[Offer, ...]
    put_back: tuple[tuple[Offer, str], ...] = ()
    """Those that stood before others for which they had to make way, each with the reason."""


def prefer_healthy(offers: Sequence[Offer], health: HealthOf) -> Ordered:
    """Sort by health, and leave the order as it is among those that are equally well.

    First what is usable; then by what speaks against it, in coarse steps, so that a little noise
    does not overrule the ranking; then by the queue. Nothing is left out: where all are unwell,
    they are asked as before.
    """
    found = [health(offer.provider, offer.model) for offer in offers]
    ranks = [_WELL if each is None else _rank(each) for each in found]
    if not ranks or ranks.count(ranks[0]) == len(ranks):
        return Ordered(tuple(offers))
    order = sorted(range(len(offers)), key=ranks.__getitem__)
    best_after = ranks[-1]
    put_back: list[tuple[Offer, str]] = []
    for index in range(len(ranks) - 2, -1, -1):
        each = found[index]
        if each is not None and ranks[index] > best_after:
            put_back.append((offers[index], _reason(each)))
        best_after = min(best_after, ranks[index])
    return Ordered(tuple(offers[index] for index in order), tuple(reversed(put_back)))


def _rank(health: ModelHealth) -> _Rank:
    penalty = sum(health.penalty >= step for step in _PENALTIES)
    return (not health.usable, penalty, _queue(health))


def _queue(health: ModelHealth) -> int:
    usual = max(_LEAST_QUEUE, _ROUNDS * health.in_flight)
    lag = health.lag or 0
    return 0 if lag <= usual else 1 if lag <= _LONG_QUEUE * usual else 2


def _reason(health: ModelHealth) -> str:
    if not health.usable:
        return "put back: it cannot be reached, or its circuit is open"
    if health.penalty >= _PENALTIES[0]:
        return f"put back: it fails or is overloaded (penalty {health.penalty:.2f})"
    return f"put back: {health.lag} calls wait for its provider"
