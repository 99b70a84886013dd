"""Where a call is written first, and what it is estimated to cost."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pipeline_records import make_call, make_job

from millrace.agents.budget_policy import Budget, BudgetPolicy
from millrace.providers.entry import ProviderEntry
from millrace.providers.pricing import Pricing
from millrace.schemas.budget import BudgetClaim
from millrace.schemas.call import Call
from millrace.schemas.request import Parameters
from millrace.streams.budget_gate import BudgetGate, Estimate, EstimateCall, settlements
from millrace.streams.topics import TopicNames

PRICING = Pricing(now=lambda: datetime(2026, 3, 1, tzinfo=UTC))


def entry(**model: Any) -> ProviderEntry:
    """A provider entry with one model."""
    return ProviderEntry.model_validate(
        {"wire": "openai", "base_url": "http://localhost:1/v1", "models": {"m0": model}}
    )


def estimate(call: Call, provider: ProviderEntry | None) -> Estimate:
    """The estimate of a call whose prompt is counted as 100 tokens."""
    entries = {} if provider is None else {"p00": provider}
    return EstimateCall(
        entries=entries, pricing=PRICING, count_tokens=lambda _: 100, output_tokens=1_000
    )(call)


def gate(*budgets: Budget) -> BudgetGate:
    """A gate that estimates every call alike."""
    return BudgetGate(
        policy=BudgetPolicy(budgets),
        topics=TopicNames(),
        estimate=lambda _: Estimate(Decimal("0.5"), 70),
    )


def test_texts_to_be_embedded_have_no_answer_to_reckon_with() -> None:
    """Only the texts, with the margin of every estimate."""
    call = make_call(make_job(messages=(), inputs=("a", "b")))
    priced = entry(price={"input": "2", "output": "8"})

    assert estimate(call, priced) == (Decimal("0.0003"), 150)


@pytest.mark.parametrize(("conversation", "key"), [(None, "r1"), ("talk", "talk")])
def test_a_call_that_no_budget_covers_goes_to_its_provider(
    conversation: str | None, key: str
) -> None:
    """Under the key that keeps the order of a conversation."""
    call = make_call(make_job(conversation_id=conversation))

    addressed = gate(Budget(name="a", usd=1, team="other")).topic_and_record(call)
    assert addressed == ("llm.calls.p00", call, key)


def test_any_other_call_becomes_a_claim_for_the_first_budget() -> None:
    """With what it may cost, and whom to ask after that."""
    call = make_call()
    topic, record, key = gate(Budget(name="b", usd=1), Budget(name="a", usd=1)).topic_and_record(
        call
    )

    assert (topic, key) == ("llm.usage", "a")
    assert record == BudgetClaim(call=call, usd=Decimal("0.5"), tokens=70, pending=("a", "b"))


@pytest.mark.parametrize(
    ("asked", "limit", "output_tokens"),
    [(None, None, 1_000), (50, None, 50), (None, 300, 300), (50, 300, 50), (900, 300, 300)],
)
def test_an_answer_is_estimated_at_its_longest(
    asked: int | None, limit: int | None, output_tokens: int
) -> None:
    """By what the request asks and what the model can; the prompt with a margin."""
    call = make_call(make_job(parameters=Parameters(max_output_tokens=asked)))
    price = {"input": "1", "output": "10"}
    usd, tokens = estimate(call, entry(max_output_tokens=limit, price=price))

    assert tokens == 150 + output_tokens
    assert usd == (Decimal(150) + 10 * output_tokens) / 1_000_000


def test_without_a_price_only_the_tokens_are_estimated() -> None:
    """An unknown price is never taken for none; hardware of one's own costs none."""
    local = entry().model_copy(update={"hardware": "gpu"})

    assert estimate(make_call(), entry()) == (None, 1_150)
    assert estimate(make_call(), None) == (None, 1_150)
    assert estimate(make_call(), local) == (Decimal(0), 1_150)


def test_each_budget_that_granted_a_call_is_told_what_it_cost() -> None:
    """Under the id of its reservation."""
    told = settlements(
        ("a", "b"), make_call(), invocation="i1", usd=Decimal(1), tokens=9, final=False
    )

    assert [each.budget for each in told] == ["a", "b"]
    assert {(each.claim_id, each.invocation, each.final) for each in told} == {
        ("r1/0/1", "i1", False)
    }
