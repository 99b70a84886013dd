"""What a replay would be accepted as, and about what it would cost, with these settings."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from millrace.agents.plan_route import PlanRoute
from millrace.providers.pricing import Pricing
from millrace.providers.tokens import estimate_call
from millrace.schemas.call import Call, MemberPlan
from millrace.streams.planning import planner
from millrace.streams.replay import Again
from millrace.streams.settings import Settings


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
        asked = estimate_call(Call(job=again.job, plan=plan))
        total = Decimal(0)
        for member in plan.members:
            cost = self._cost(member, again, asked, answers=len(plan.stage_members(0)))
            if cost is None:
                return None
            total += cost
        return total

    def _cost(
        self, member: MemberPlan, again: Again, input_tokens: int, *, answers: int
    ) -> Decimal | None:
        candidate = member.candidates[0]
        allowed = again.job.parameters.max_output_tokens
        expected = self.output_tokens if allowed is None else min(allowed, self.output_tokens)
        if again.job.inputs:
            expected = 0
        elif member.role == "embed":
            # It reads the answers, and not the question; vectors are no tokens.
            input_tokens, expected = answers * expected, 0
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
        plan=planner(settings),
        pricing=pricing,
        output_tokens=output_tokens,
    )
