"""Deals fitting offers out to the members of a plan."""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from millrace.agents.offers import Offer

Screen = Callable[[Offer], bool]
"""Lets an offer pass or not; asked in order of rank, and no more often than needed."""

_Head = tuple[int, Offer, Iterator[tuple[int, Offer]]]
"""The best offer left of a provider, with its rank (no two are equal) and those after it."""


def line_up(fitting: Sequence[Offer], passes: Screen, *, limit: int, by_side: bool) -> list[Offer]:
    """Take the best few, in order, to be tried in turn.

    Where all of these would come from one provider (or, `by_side`, all from local hardware or
    all from the cloud) and another fits, the best of the others takes the last place, so that
    the outage of one does not end the work.
    """
    offers = iter(fitting)
    chosen = list(islice(filter(passes, offers), limit))
    if limit == 1 or len(chosen) < limit:
        return chosen

    def origin(offer: Offer) -> object:
        return offer.local if by_side else offer.provider

    first, *others = map(origin, chosen)
    if all(other == first for other in others):
        rest = (each for each in offers if origin(each) != first and passes(each))
        chosen[-1] = next(rest, chosen[-1])
    return chosen


def deal(
    by_provider: Iterable[Iterable[tuple[int, Offer]]],
    passes: Screen,
    *,
    members: int,
    limit: int,
) -> list[list[Offer]]:
    """Give each member of an ensemble offers of its own, at most `limit`.

    `by_provider` holds each provider's offers with their ranks, best first. First offers come
    from as many providers as there are, in rounds. What is left is dealt in turns as fallback:
    from a provider that is no member's first, else from one that the member has not got yet,
    else from any. Fewer lists than `members` mean that no more offers fit.
    """
    heads: list[_Head] = []
    for offers in by_provider:
        _put(heads, ((rank, offer) for rank, offer in offers if passes(offer)))
    hands: list[list[Offer]] = []
    while heads and len(hands) < members:
        hands += [[_take(heads, head)] for head in heads[: members - len(hands)]]
    firsts = {hand[0].provider for hand in hands}
    for _ in range(limit - 1):
        for hand in hands:
            if not heads:
                return hands
            hand.append(_take(heads, _best(heads, firsts, {offer.provider for offer in hand})))
    return hands


def _best(heads: Sequence[_Head], firsts: set[str], own: set[str]) -> _Head:
    # min keeps the first of equals, and heads are ordered by rank.
    return min(heads, key=lambda head: (head[1].provider in firsts, head[1].provider in own))


def _take(heads: list[_Head], head: _Head) -> Offer:
    _, offer, rest = head
    heads.remove(head)
    _put(heads, rest)
    return offer


def _put(heads: list[_Head], offers: Iterator[tuple[int, Offer]]) -> None:
    following = next(offers, None)
    if following is not None:
        insort(heads, (*following, offers))
