"""Puts the cloud before local models whose queue is too deep."""

from collections.abc import Sequence

from millrace.agents.health import HealthOf
from millrace.agents.offers import Offer


def spill_over(
    fitting: Sequence[Offer], health: HealthOf, *, max_local_lag: int
) -> tuple[tuple[Offer, ...], tuple[str, ...]]:
    """Move offers of busy local entries behind all others, and say which entries are busy.

    Both parts keep their order, and nothing is dropped: where only busy ones fit, they are asked.
    """
    lags: dict[str, int] = {}
    for offer in fitting:
        if offer.local and offer.provider not in lags:
            known = health(offer.provider, offer.model)
            lags[offer.provider] = (known.lag if known is not None else None) or 0
    busy = {provider: lag for provider, lag in lags.items() if lag > max_local_lag}
    if not busy:
        return tuple(fitting), ()
    ordered = sorted(fitting, key=lambda offer: offer.provider in busy)
    notes = tuple(
        f"{lag} calls wait at {provider}, more than max_local_lag {max_local_lag}: the cloud first"
        for provider, lag in sorted(busy.items())
    )
    return tuple(ordered), notes
