"""Lets models pass that are large, cheap and quick enough for a request."""

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
        reason = None
        if not self.sizes.fits(offer):
            reason = self.sizes.misfit(offer)
        elif self.max_latency_s is not None:
            reason = self._too_slow(offer, self.max_latency_s)
        if reason is None:
            return True
        if len(self.refused) < MAX_PASSED_OVER:
            self.refused.append(
                PassedOver(provider=offer.provider, model=offer.model, reason=reason)
            )
        return False

    def cost(self, offer: Offer) -> Decimal | None:
        """US dollars for one call, as estimated; None when a price is unknown."""
        return self.sizes.estimated_cost(offer)

    def _too_slow(self, offer: Offer, limit: float) -> str | None:
        health = self.health(offer.provider, offer.model) if self.health is not None else None
        if health is None or health.total_ms is None:
            self.unmeasured += 1
            return None
        if health.total_ms <= limit * 1e3:
            return None
        return f"it takes about {health.total_ms / 1e3:.3g} s, more than max_latency_s {limit:g}"
