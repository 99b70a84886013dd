"""What a replay would be accepted as, and about what it would cost, with these settings."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from millrace.agents.accept_request import AcceptRequest
from millrace.agents.plan_route import PlanRoute
from millrace.prompts.library import PACKAGED, PromptLibrary
from millrace.providers.pricing import Pricing
from millrace.providers.tokens import estimate_job, estimate_messages
from millrace.schemas.call import Candidate
from millrace.streams.offers import offers
from millrace.streams.replay import Again
from millrace.streams.settings import Settings
from millrace.streams.topics import max_outcome_bytes


def acceptance(settings: Settings) -> AcceptRequest:
    """What the router accepts with these settings."""
    return AcceptRequest(
        library=PromptLibrary.load((PACKAGED, *settings.prompts.folders)),
        policy=settings.requests,
        own_topics=(f"{settings.kafka.topic_prefix}*", f"{settings.app_id}-*-changelog"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CostEstimate:
    """About what a request will cost at the models that it would be routed to first."""

    settings: Settings
    plan: PlanRoute
    pricing: Pricing
    output_tokens: int
    """How long an answer is taken to be, unless the request allows less."""

    def __call__(self, again: Again) -> Decimal | None:
        """US dollars over all members; None when a price is not known.

        Raises:
            InvalidEventError: No model fits.
        """
        plan = self.plan.plan(again.job, again.request.route)
        asked = estimate_job(again.job)
        total = Decimal(0)
        for member in plan.members:
            cost = self._cost(member.candidates[0], again, asked)
            if cost is None:
                return None
            total += cost
        return total

    def _cost(self, candidate: Candidate, again: Again, input_tokens: int) -> Decimal | None:
        allowed = again.job.parameters.max_output_tokens
        expected = self.output_tokens if allowed is None else min(allowed, self.output_tokens)
        if again.job.inputs:
            expected = 0
        return self.pricing.estimate(
            self.settings.providers[candidate.provider],
            candidate.model,
            input_tokens=input_tokens,
            max_output_tokens=expected,
        )


def cost_estimate(settings: Settings, *, output_tokens: int) -> CostEstimate:
    """An estimate by the routes and prices of these settings."""
    pricing = Pricing(now=lambda: datetime.now(UTC))
    return CostEstimate(
        settings=settings,
        plan=PlanRoute(
            offers=offers(settings.enabled_providers, pricing),
            policy=settings.routes,
            count_tokens=estimate_messages,
            max_outcome_bytes=max_outcome_bytes(settings.kafka),
        ),
        pricing=pricing,
        output_tokens=output_tokens,
    )
