"""Reorders what fits by how the models are doing at the moment."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from millrace.agents.health import HealthOf, ModelHealth
from millrace.agents.offers import Offer
from millrace.agents.prefer_healthy import NOISE, Ordered, prefer_healthy
from millrace.agents.rank_offers import Selection
from millrace.agents.spill_over import spill_over
from millrace.schemas.call import PassedOver

_LOOKED_AT = 32
"""Of thousands that fit, only the first are looked at while enough of them are well."""
_ENOUGH = 8
_EACH_AT_LEAST = 4
"""Looked at of each provider, where members are to be of different ones."""
_TOLD = 5

Groups = tuple[tuple[tuple[int, Offer], ...], ...]
PutBack = tuple[tuple[Offer, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heeded:
    """A selection in the order in which it is to be asked."""

    selection: Selection
    put_back: PutBack = ()
    """Those that made way for others, with the reasons."""
    notes: tuple[str, ...] = ()

    def told(self, chosen: Iterable[tuple[str, str]]) -> tuple[list[PassedOver], list[str]]:
        """What was put back: those that are not asked at all, and, in words, the others.

        `chosen` are provider and model of all candidates.
        """
        asked = set(chosen)
        out: list[PassedOver] = []
        later: list[str] = []
        for offer, why in self.put_back:
            if (offer.provider, offer.model) in asked:
                later.append(f"{offer.qualified_name} {why}")
            else:
                out.append(PassedOver(provider=offer.provider, model=offer.model, reason=why))
        return out, later[:_TOLD]


def heed_health(
    selection: Selection, health: HealthOf | None, *, max_local_lag: int | None
) -> Heeded:
    """Put unwell models behind the others, within a cascade's tiers; nothing is dropped.

    With `max_local_lag`, the queues of local entries count only beyond it.
    """
    if health is None:
        return Heeded(selection=selection)
    told = (
        health if max_local_lag is None else _patient_with_local(health, selection, max_local_lag)
    )
    notes: tuple[str, ...] = ()
    if selection.by_provider:
        by_provider, put_back = _dealt_by_health(selection.by_provider, told)
        return Heeded(selection=replace(selection, by_provider=by_provider), put_back=put_back)
    if selection.tiers:
        tiers = tuple(ordered_by_health(tier, told).offers for tier in selection.tiers)
        return Heeded(selection=replace(selection, tiers=tiers))
    ordered = ordered_by_health(selection.fitting, told)
    fitting = ordered.offers
    if max_local_lag is not None:
        fitting, notes = spill_over(fitting, health, max_local_lag=max_local_lag)
    if not ordered.put_back and not notes:
        return Heeded(selection=selection)
    heeded = replace(selection, fitting=fitting)
    return Heeded(selection=heeded, put_back=ordered.put_back, notes=notes)


def ordered_by_health(offers: Sequence[Offer], health: HealthOf) -> Ordered:
    """As `prefer_healthy`, without looking at thousands while the first ones are well."""
    first = offers[:_LOOKED_AT]
    if len(first) < len(offers):
        well = sum(_is_well(health(offer.provider, offer.model)) for offer in first)
        if well >= _ENOUGH:
            ordered = prefer_healthy(first, health)
            return Ordered((*ordered.offers, *offers[_LOOKED_AT:]), ordered.put_back)
    return prefer_healthy(offers, health)


def _dealt_by_health(groups: Groups, health: HealthOf) -> tuple[Groups, PutBack]:
    """Rank the first of each provider anew, and what is behind them after that."""
    each = max(_EACH_AT_LEAST, _LOOKED_AT // len(groups))
    first = sorted((ranked for group in groups for ranked in islice(group, each)), key=_rank)
    ordered = prefer_healthy([offer for _, offer in first], health)
    if not ordered.put_back:
        return groups, ()
    heads: dict[str, list[tuple[int, Offer]]] = {}
    for ranked in enumerate(ordered.offers, -len(first)):  # before all that keep their ranks
        heads.setdefault(ranked[1].provider, []).append(ranked)
    dealt = tuple((*heads[group[0][1].provider], *group[each:]) for group in groups)
    return dealt, ordered.put_back


def _rank(ranked: tuple[int, Offer]) -> int:
    return ranked[0]


def _is_well(health: ModelHealth | None) -> bool:
    return health is None or (health.usable and health.penalty < NOISE)


def _patient_with_local(health: HealthOf, selection: Selection, max_local_lag: int) -> HealthOf:
    local = {offer.provider for offer in selection.fitting if offer.local}

    def told(provider: str, model: str) -> ModelHealth | None:
        known = health(provider, model)
        if known is None or provider not in local or (known.lag or 0) > max_local_lag:
            return known
        return replace(known, lag=None)

    return told
