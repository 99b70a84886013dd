"""Finds who turns an ensemble's answers into vectors, for a vote by what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from millrace.agents.constraints import Sizes, dollars
from millrace.agents.offers import Offer
from millrace.schemas.call import PassedOver

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Who may work on the members' answers, in the order in which they are asked."""

    offers: Sequence[Offer]
    cost: Decimal | None
    """US dollars for the first one's call, as estimated; None when a price is unknown."""
    refused: Sequence[PassedOver]


def find_embedders(
    offers: Sequence[Offer], answering: Sequence[Offer], *, sizes: Sizes, limit: int
) -> Found:
    """Take the best few that take so many texts at once and are within the cost bound.

    `answering` are the models that answer. Windows are not looked at: of a long answer only the
    beginning is embedded.
    """
    tokens = sum(sizes.answer_tokens(offer) for offer in answering)
    chosen: list[Offer] = []
    refused: list[PassedOver] = []
    for offer in offers:
        if len(chosen) == limit:
            break
        reason = _misfit(offer, len(answering), _cost(offer, tokens), sizes.max_cost_usd)
        if reason is None:
            chosen.append(offer)
        else:
            refused.append(PassedOver(provider=offer.provider, model=offer.model, reason=reason))
    cost = _cost(chosen[0], tokens) if chosen else None
    return Found(offers=chosen, cost=cost, refused=refused)


def _cost(offer: Offer, tokens: int) -> Decimal | None:
    return None if offer.prices is None else offer.prices[0] * tokens / _MILLION


def _misfit(offer: Offer, texts: int, cost: Decimal | None, most: Decimal | None) -> str | None:
    if offer.max_inputs is not None and texts > offer.max_inputs:
        return f"it takes at most {offer.max_inputs} texts at once, not {texts}"
    if most is None:
        return None
    if cost is None:
        return "its price is unknown, so that max_cost_usd cannot be kept"
    return f"it would cost about {dollars(cost)}" if cost > most else None
