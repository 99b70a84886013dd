"""What embeddings cost: models that have no output."""

from datetime import UTC, datetime
from decimal import Decimal

from millrace.providers.entry import ProviderEntry
from millrace.providers.pricing import Pricing
from millrace.schemas.usage import Usage

PRICING = Pricing(now=lambda: datetime(2026, 5, 1, tzinfo=UTC))
OPENAI = ProviderEntry.model_validate(
    {"wire": "openai", "base_url": "https://api.openai.com/v1", "prices": "openai"}
)
MODEL = "text-embedding-3-small"


def test_input_alone_is_priced() -> None:
    """2 cents for a million tokens."""
    cost = PRICING.cost(OPENAI, MODEL, Usage(input_tokens=1_000_000), None)

    assert cost == (Decimal("0.02"), "price_table")
    assert PRICING.prices_per_million(OPENAI, MODEL) == (Decimal("0.02"), None)


def test_output_of_a_model_that_has_none_is_an_unknown_cost() -> None:
    """Rather than a part of it."""
    usage = Usage(input_tokens=10, output_tokens=1)

    assert PRICING.cost(OPENAI, MODEL, usage, None) == (None, "unknown")


def test_the_most_a_batch_may_cost_is_its_input() -> None:
    """No limit of output is needed."""
    most = PRICING.estimate(OPENAI, MODEL, input_tokens=1_000_000, max_output_tokens=None)

    assert most == Decimal("0.02")


def test_a_command_is_not_priced_as_the_models_it_uses() -> None:
    """A plan is what is paid for there."""
    entry = ProviderEntry.model_validate({"wire": "cursor-cli"})

    assert PRICING.cost(entry, "gpt-4.1", Usage(input_tokens=10), None) == (None, "unknown")
