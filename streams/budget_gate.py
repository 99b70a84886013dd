"""Where a call goes first: to its provider, or to the budgets that it counts against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from millrace.agents.budget_policy import BudgetPolicy
from millrace.providers.entry import ProviderEntry
from millrace.providers.pricing import Pricing
from millrace.schemas.budget import BudgetClaim, BudgetSettlement
from millrace.schemas.call import Call
from millrace.schemas.record import Record
from millrace.streams.topics import TopicNames

OUTPUT_TOKENS = 4_096
"""Taken for the longest answer where neither the request nor the model's entry limits it."""

_INPUT_MARGIN = 1.5
"""Local estimates of a prompt may be short by so much."""


class Addressed(NamedTuple):
    """A record with its place."""

    topic: str
    record: Record
    key: str


class Estimate(NamedTuple):
    """The most a call may cost."""

    usd: Decimal | None
    """None when its price is unknown."""
    tokens: int
    """Input and output together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateCall:
    """Estimates calls by the prices and limits of their provider entries."""

    entries: Mapping[str, ProviderEntry]
    pricing: Pricing
    count_tokens: Callable[[Call], int]
    output_tokens: int = OUTPUT_TOKENS

    def __call__(self, call: Call) -> Estimate:
        """Estimate the prompt with a margin, and the answer at its longest."""
        target = call.target
        input_tokens = round(self.count_tokens(call) * _INPUT_MARGIN)
        entry = self.entries.get(target.provider)
        facts = entry.models.get(target.model) if entry is not None else None
        limits = (call.parameters.max_output_tokens, facts.max_output_tokens if facts else None)
        output_tokens = min(filter(None, limits), default=self.output_tokens)
        if call.inputs:
            output_tokens = 0
        usd = None
        if entry is not None:
            usd = self.pricing.estimate(
                entry, target.model, input_tokens=input_tokens, max_output_tokens=output_tokens
            )
        return Estimate(usd, input_tokens + output_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetGate:
    """Decides where to write a call; whoever makes calls asks it."""

    policy: BudgetPolicy
    topics: TopicNames
    estimate: Callable[[Call], Estimate]

    def topic_and_record(self, call: Call) -> Addressed:
        """The call itself where no budget covers it, else a claim for the first that does."""
        names = self.policy.covering(call)
        if not names:
            return to_provider(call, self.topics)
        usd, tokens = self.estimate(call)
        claim = BudgetClaim(call=call, usd=usd, tokens=tokens, pending=names)
        return to_budget(claim, self.topics)


def to_provider(call: Call, topics: TopicNames) -> Addressed:
    """Where a call may be made."""
    job = call.job
    return Addressed(
        topics.calls(call.target.provider), call, job.conversation_id or job.request_id
    )


def to_budget(claim: BudgetClaim, topics: TopicNames) -> Addressed:
    """Where the next budget decides about a claim."""
    return Addressed(topics.usage, claim, claim.pending[0])


def settlements(
    budgets: Sequence[str],
    call: Call,
    *,
    invocation: str,
    usd: Decimal | None,
    tokens: int,
    final: bool = True,
) -> tuple[BudgetSettlement, ...]:
    """What each budget that granted a call is told of an invocation.

    `usd` is None when the cost is unknown; a call that was not made cost 0. One that was broken
    off, and will be made again, is not `final`.
    """
    return tuple(
        BudgetSettlement(
            budget=name,
            claim_id=call.claimed_as or call.attempt_id,
            invocation=invocation,
            usd=usd,
            tokens=tokens,
            final=final,
        )
        for name in budgets
    )
