"""What calls cost, by whom it is known."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import calc_price
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.providers.entry import ModelEntry, PriceOverride, ProviderEntry
from millrace.providers.pricing import Pricing
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import Hardware

_NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
_USAGE = Usage(input_tokens=1000, cached_tokens=200, cache_write_tokens=300, output_tokens=50)


def _pricing(now: datetime = _NOON) -> Pricing:
    return Pricing(now=lambda: now)


def _entry(
    model: ModelEntry | None = None,
    *,
    prices: str | None = None,
    hardware: Hardware = "cloud",
    base_url: str = "http://localhost:1/v1",
) -> ProviderEntry:
    return ProviderEntry(
        wire="openai",
        base_url=base_url,
        models={"m": model or ModelEntry()},
        prices=prices,
        hardware=hardware,
    )


_OVERRIDE = PriceOverride(input=Decimal(2), output=Decimal(10))


def test_what_the_provider_reports_goes_first() -> None:
    """Also when it is nothing: a free model, said to be free."""
    entry = _entry(ModelEntry(price=_OVERRIDE))

    assert _pricing().cost(entry, "m", _USAGE, Decimal("0.5")) == (Decimal("0.5"), "provider")
    assert _pricing().cost(entry, "m", _USAGE, Decimal(0)) == (Decimal(0), "provider")


def test_an_override_goes_before_the_table() -> None:
    """Cached tokens cost as input does where the override does not say."""
    entry = _entry(ModelEntry(price=_OVERRIDE, price_as="gpt-4o"), prices="openai")

    assert _pricing().cost(entry, "m", _USAGE, None) == (Decimal("0.0025"), "override")


def test_an_override_prices_cache_reads_and_writes_by_their_own_rates() -> None:
    """500 plain, 200 cached, 300 written, 50 out."""
    price = PriceOverride(
        input=Decimal(2), output=Decimal(10), cached=Decimal(1), cache_write=Decimal(3)
    )

    cost, _ = _pricing().cost(_entry(ModelEntry(price=price)), "m", _USAGE, None)

    assert cost == Decimal(500 * 2 + 200 * 1 + 300 * 3 + 50 * 10) / 1_000_000


@pytest.mark.parametrize("hardware", ["gpu", "cpu"])
def test_hardware_of_ones_own_costs_nothing_unless_an_override_says_so(
    hardware: Hardware,
) -> None:
    """It is booked as local, not as free of charge by somebody."""
    entry = _entry(hardware=hardware)
    priced = _entry(ModelEntry(price=_OVERRIDE), hardware=hardware)

    assert _pricing().cost(entry, "m", _USAGE, None) == (Decimal(0), "local")
    assert _pricing().cost(entry, "m", None, None) == (Decimal(0), "local")
    assert _pricing().cost(priced, "m", _USAGE, None) == (Decimal("0.0025"), "override")
    assert _pricing().prices_per_million(entry, "m") == (0, 0)
    assert _pricing().estimate(entry, "m", input_tokens=9, max_output_tokens=None) == 0


@pytest.mark.parametrize(
    "entry",
    [
        _entry(),
        _entry(prices="openai"),
        _entry(prices="nobody"),
        _entry(ModelEntry(price_as="gpt-99"), prices="openai"),
    ],
    ids=["unknown server", "unknown model", "unknown provider", "unknown name"],
)
def test_an_unknown_price_is_unknown_and_not_nothing(entry: ProviderEntry) -> None:
    """Every way of not knowing gives None."""
    assert _pricing().cost(entry, "m", _USAGE, None) == (None, "unknown")
    assert _pricing().estimate(entry, "m", input_tokens=10, max_output_tokens=10) is None
    assert _pricing().prices_per_million(entry, "m") == (None, None)


def test_unknown_usage_is_an_unknown_cost() -> None:
    """There is a price, but nothing to multiply it with."""
    assert _pricing().cost(_entry(ModelEntry(price=_OVERRIDE)), "m", None, None) == (
        None,
        "unknown",
    )


_TABLE_MODELS = [
    ("anthropic", "claude-sonnet-4-5"),
    ("openai", "gpt-4o-mini"),
    ("google", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"),
    ("perplexity", "sonar"),
]


@settings(max_examples=60)
@given(
    model=st.sampled_from(_TABLE_MODELS),
    tokens=st.tuples(
        st.integers(0, 300_000), st.integers(0, 300_000), *[st.integers(0, 10_000)] * 3
    ),
    hour=st.integers(0, 23),
)
def test_the_price_table_is_applied_as_its_own_package_applies_it(
    model: tuple[str, str], tokens: tuple[int, int, int, int, int], hour: int
) -> None:
    """Tiers, cache rates (five minutes and an hour) and prices by the hour of the day."""
    plain, cached, written, written_1h, output = tokens
    provider, name = model
    now = _NOON.replace(hour=hour)
    entry = _entry(ModelEntry(price_as=name), prices=provider)
    usage = Usage(
        input_tokens=plain + cached + written + written_1h,
        cached_tokens=cached,
        cache_write_tokens=written + written_1h,
        cache_write_1h_tokens=written_1h,
        output_tokens=output,
    )
    expected = calc_price(
        TableUsage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=cached,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=written_1h,
            output_tokens=output,
        ),
        name,
        provider_id=provider,
        genai_request_timestamp=now,
    ).total_price

    assert _pricing(now).cost(entry, "m", usage, None) == (expected, "price_table")


def test_a_server_known_by_its_url_needs_no_table_id() -> None:
    """The usual servers are recognised."""
    entry = _entry(ModelEntry(price_as="gpt-4o-mini"), base_url="https://api.openai.com/v1")

    assert _pricing().prices_per_million(entry, "m") == (Decimal("0.15"), Decimal("0.6"))


def test_counts_that_contradict_each_other_never_give_money_back() -> None:
    """One vendor was seen to report more cached tokens than input."""
    usage = Usage(input_tokens=10, cached_tokens=50, output_tokens=0)

    cost, _ = _pricing().cost(_entry(ModelEntry(price=_OVERRIDE)), "m", usage, None)

    assert cost == Decimal(50 * 2) / 1_000_000


def test_an_estimate_is_the_most_that_a_call_may_cost() -> None:
    """Input uncached, output to the limit of the request or of the model."""
    entry = _entry(ModelEntry(price=_OVERRIDE, max_output_tokens=1000))
    pricing = _pricing()

    asked = pricing.estimate(entry, "m", input_tokens=100, max_output_tokens=10)
    unasked = pricing.estimate(entry, "m", input_tokens=100, max_output_tokens=None)
    boundless = pricing.estimate(
        _entry(ModelEntry(price=_OVERRIDE)), "m", input_tokens=100, max_output_tokens=None
    )

    assert asked == Decimal("0.0003")
    assert unasked == Decimal("0.0102")
    assert boundless is None
