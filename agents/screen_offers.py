"""Lets models pass that are large, cheap and quick enough for a request."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from millrace.agents.constraints import Sizes
from millrace.agents.health import HealthOf
from millrace.agents.offers import Offer
from millrace.agents.rank_offers import MAX_PASSED_OVER
from millrace.schemas.call import PassedOver


@dataclass(slots=True, kw_only=True)
class Screen:
    """Asked about offers in order of rank; keeps the reasons of those it refused."""

    sizes: Sizes
    max_latency_s: float | None = None
    health: HealthOf | None = None
    refused: list[PassedOver] = field(default_factory=list)
    unmeasured: int = 0
    """How many were let through though their latency is not known."""

    def passes(self, offer: Offer) -> bool:
        """Whether the offer will do."""
        if not self.sizes.fits(offer):
            self._refuse(offer, self.sizes.misfit)
            return False
        if self.max_latency_s is None or self._quick_enough(offer, self.max_latency_s):
            return True
        self._refuse(offer, self._slowness)
        return False

    def cost(self, offer: Offer) -> Decimal | None:
        """US dollars for one call, as estimated; None when a price is unknown."""
        return self.sizes.estimated_cost(offer)

    def _quick_enough(self, offer: Offer, limit: float) -> bool:
        measured = self._total_ms(offer)
        if measured is None:
            self.unmeasured += 1
            return True
        return measured <= limit * 1e3

    def _slowness(self, offer: Offer) -> str:
        seconds = (self._total_ms(offer) or 0.0) / 1e3
        return f"it takes about {seconds:.3g} s, longer than max_latency_s {self.max_latency_s:g}"

    def _total_ms(self, offer: Offer) -> float | None:
        health = self.health(offer.provider, offer.model) if self.health is not None else None
        return None if health is None else health.total_ms

    def _refuse(self, offer: Offer, why: Callable[[Offer], str]) -> None:
        # Thousands may be refused, and words are dear.
        if len(self.refused) < MAX_PASSED_OVER:
            self.refused.append(
                PassedOver(provider=offer.provider, model=offer.model, reason=why(offer))
            )
