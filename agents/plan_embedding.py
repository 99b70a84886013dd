"""Decides which models turn a job's inputs into vectors, in which order.

Vectors of two models cannot be compared, whatever their length. So unless the request itself names
the models it takes, the fallback for a model is the same model at another entry.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from millrace.agents.compose_members import line_up
from millrace.agents.constraints import Constraints, dollars
from millrace.agents.health import HealthOf
from millrace.agents.offers import Offer
from millrace.agents.policy import TaskRoute
from millrace.agents.prefer_healthy import prefer_healthy
from millrace.agents.rank_offers import MAX_PASSED_OVER, RankOffers
from millrace.schemas.call import Job, MemberPlan, PassedOver, Plan
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.message import Message
from millrace.schemas.record import canonical_json
from millrace.schemas.request import EMBEDDING_STRATEGIES, Route
from millrace.schemas.vocabulary import Strategy

MAX_OUTCOME_BYTES = 2_097_152
"""What the outcomes topic takes unless `kafka.max_request_bytes` is set."""

ASSUMED_DIMENSIONS = 4_096
"""The length to reckon with where neither request nor entry tells: few models make longer ones."""

_NUMBER_BYTES = 25
"""The longest that a number is written as: sign, 17 digits with a point, exponent, comma."""

_VECTOR_BYTES = 3
_PLAN_BYTES = 16_384
"""For the plan and the attempts made so far, which lie in the outcome's record too."""

_MILLION = Decimal(1_000_000)
_NEAREST_SHOWN = 5


def plan_embedding(
    job: Job,
    route: Route,
    *,
    ranking: RankOffers,
    task_route: TaskRoute,
    count_tokens: Callable[[Sequence[Message]], int],
    max_outcome_bytes: int,
    health: HealthOf | None,
) -> Plan:
    """Choose the candidates, which make vectors of the same kind unless `route.models` is given.

    Deterministic, as `PlanRoute`. A task whose strategy has no meaning for vectors is planned as
    `auto`.

    Raises:
        InvalidEventError: `no_route`: nothing fits; the message says what was asked and why models
            were passed over. `too_large`: models fit, but the vectors would not go into one
            record; the message says how many do.
    """
    strategy = task_route.strategy if route.strategy == "auto" else route.strategy
    if strategy not in EMBEDDING_STRATEGIES:
        strategy = "auto"
    selection = ranking.rank(Constraints.of(job, route, strategy, capabilities=("embeddings",)))
    batch = _Batch.of(job, route, count_tokens=count_tokens, max_outcome_bytes=max_outcome_bytes)
    refused = [
        PassedOver(provider=offer.provider, model=offer.model, reason=reason)
        for offer in selection.fitting
        if (reason := batch.misfit(offer)) is not None
    ]
    fitting = [offer for offer in selection.fitting if batch.misfit(offer) is None]
    if not fitting:
        passed_over = refused or selection.nearest or selection.passed_over
        raise _no_route(batch, strategy, selection.fitting, passed_over)
    if not route.models:
        fitting = [offer for offer in fitting if offer.model == fitting[0].model]
    if health is not None:
        # Only now: which model it is must not depend on who is well at the moment.
        fitting = list(prefer_healthy(fitting, health).offers)
    by_side = strategy in {"local_first", "cloud_first"}
    chosen = line_up(fitting, lambda _: True, limit=task_route.max_candidates, by_side=by_side)
    passed = (*refused, *selection.passed_over)[:MAX_PASSED_OVER]
    origin = "as asked" if route.models else "so that all vectors are of one model"
    return Plan(
        strategy=strategy,
        members=(MemberPlan(candidates=tuple(offer.planned for offer in chosen)),),
        reasons=(
            f"embeddings, {batch.described}",
            f"{len(selection.fitting)} models fit but for sizes",
            f"{' and '.join(dict.fromkeys(offer.model for offer in chosen))} only, {origin}",
        ),
        passed_over=passed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """The texts of a job, and what they may come to."""

    number: int
    tokens: int
    """Of all texts, estimated."""
    longest_tokens: int
    dimensions: int | None
    input_bytes: int
    """Of the texts, as JSON."""
    room_bytes: int
    """What a record has for texts and vectors."""
    max_cost_usd: Decimal | None

    @classmethod
    def of(
        cls,
        job: Job,
        route: Route,
        *,
        count_tokens: Callable[[Sequence[Message]], int],
        max_outcome_bytes: int,
    ) -> "_Batch":
        counts = [count_tokens((Message(role="user", content=text),)) for text in job.inputs]
        input_bytes = len(canonical_json(job.inputs))
        whole = len(job.model_dump_json())
        return cls(
            number=len(job.inputs),
            tokens=sum(counts),
            longest_tokens=max(counts),
            dimensions=job.dimensions,
            input_bytes=input_bytes,
            room_bytes=max_outcome_bytes - _PLAN_BYTES - (whole - input_bytes),
            max_cost_usd=route.max_cost_usd,
        )

    @property
    def described(self) -> str:
        """What is asked, for people."""
        parts = [f"{self.number} inputs", f"about {self.tokens} tokens"]
        if self.dimensions is not None:
            parts.append(f"{self.dimensions} dimensions")
        if self.max_cost_usd is not None:
            parts.append(f"at most {dollars(self.max_cost_usd)}")
        return ", ".join(parts)

    def most(self, offer: Offer) -> int:
        """How many such texts go into one record together with the offer's vectors."""
        dimensions = self.dimensions or offer.dimensions or ASSUMED_DIMENSIONS
        each = dimensions * _NUMBER_BYTES + _VECTOR_BYTES + -(-self.input_bytes // self.number)
        return max(0, self.room_bytes // each)

    def misfit(self, offer: Offer) -> str | None:
        """Why the offer cannot take the batch; None when it can."""
        if offer.max_inputs is not None and self.number > offer.max_inputs:
            return f"it takes at most {offer.max_inputs} inputs at once, not {self.number}"
        window = offer.context_window
        if window is not None and self.longest_tokens > window:
            return f"its window of {window} tokens is too small for about {self.longest_tokens}"
        if self.number > self.most(offer):
            return f"at most {self.most(offer)} such inputs fit with their vectors into one record"
        if self.max_cost_usd is None:
            return None
        if offer.prices is None:
            return "its price is unknown, so that max_cost_usd cannot be kept"
        cost = offer.prices[0] * self.tokens / _MILLION
        return f"it would cost about {dollars(cost)}" if cost > self.max_cost_usd else None


def _no_route(
    batch: _Batch,
    strategy: Strategy,
    fitting: Sequence[Offer],
    passed_over: Sequence[PassedOver],
) -> InvalidEventError:
    shown = "; ".join(
        f"{each.provider}/{each.model}: {each.reason}" for each in passed_over[:_NEAREST_SHOWN]
    )
    if fitting and all(batch.number > batch.most(offer) for offer in fitting):
        most = max(map(batch.most, fitting))
        return InvalidEventError(
            f"{batch.number} inputs and their vectors are too large for one record; at most {most} "
            "such inputs fit: send them in several requests, ask for fewer dimensions, or raise "
            f"kafka.max_request_bytes; passed over: {shown}",
            code="too_large",
        )
    return InvalidEventError(
        f"no model fits; asked: strategy {strategy}, embeddings of {batch.described}; "
        f"passed over: {shown or 'none, as no entry offers a model'}",
        code="no_route",
    )
