"""Divides the models of a cascade into tiers, cheapest first."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from millrace.agents.offers import Offer
from millrace.agents.policy import TaskRoute
from millrace.schemas.vocabulary import TaskType

Tiers = tuple[tuple[Offer, ...], ...]


def tiers_of(fitting: Sequence[Offer], task: TaskType, route: TaskRoute) -> Tiers:
    """Divide offers, given best first, into tiers; no offer is in two, and no tier is empty.

    By the route's patterns where it has any; else by the tiers that models name, those without
    one left out; else by price and quality: each tier is the cheapest that is better than the
    one before, followed by what costs more than it and is no better than the next.
    """
    if route.tiers:
        return _listed(fitting, route.tiers)
    named = {offer.tier for offer in fitting if offer.tier is not None}
    if named:
        return tuple(
            tuple(offer for offer in fitting if offer.tier == tier) for tier in sorted(named)
        )
    return _climbed(fitting, task, route.max_tiers)


def _listed(fitting: Iterable[Offer], tiers: Sequence[Sequence[str]]) -> Tiers:
    found: list[list[tuple[int, Offer]]] = [[] for _ in tiers]
    for offer in fitting:
        places = (
            (tier, place)
            for tier, patterns in enumerate(tiers)
            for place, pattern in enumerate(patterns)
            if fnmatchcase(offer.qualified_name, pattern)
        )
        tier, place = next(places, (None, 0))
        if tier is not None:
            found[tier].append((place, offer))
    ordered = (sorted(tier, key=lambda each: each[0]) for tier in found if tier)
    return tuple(tuple(offer for _, offer in tier) for tier in ordered)


def _climbed(fitting: Iterable[Offer], task: TaskType, most: int) -> Tiers:
    by_price = sorted(
        fitting,
        key=lambda offer: (offer.price, -offer.quality_for(task)),
    )
    best = -1
    rungs: list[int] = []
    for offer in by_price:
        if offer.quality_for(task) > best:
            best = offer.quality_for(task)
            rungs.append(best)
    steps = [rungs[at] for at in _spread(len(rungs), most)]
    tiers: list[list[Offer]] = [[] for _ in steps]
    for offer in by_price:
        quality = offer.quality_for(task)
        tier = sum(quality >= step for step in steps) - 1
        if tier >= 0:
            tiers[tier].append(offer)
    return tuple(map(tuple, tiers))


def _spread(length: int, most: int) -> list[int]:
    """At most so many places of a row, the first and the last among them, evenly apart."""
    if length <= most:
        return list(range(length))
    return [round(place * (length - 1) / (most - 1)) for place in range(most)]
