"""What a call cost, or may cost, in US dollars.

The order: what the provider reports, the operator's override, the price table of the
`genai-prices` package, else unknown. Hardware of one's own costs nothing unless an override
says so. Unknown is None and never 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from millrace.providers.entry import ModelEntry, PriceOverride, ProviderEntry
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import LOCAL_HARDWARE, CostSource

_MILLION = Decimal(1_000_000)
_THOUSAND = Decimal(1000)
_ZERO = Decimal(0)
_LOOKUPS = 4096

_Rate = Decimal | TieredPrices
_NO_ENTRY = ModelEntry()
_TABLE_RATES: dict[int, "tuple[ModelPrice, Rates | None]"] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """US dollars for a million tokens of each kind."""

    input: _Rate
    output: _Rate | None
    """None for models that have no output: those that embed."""
    cached: _Rate
    cache_write: _Rate
    cache_write_1h: _Rate
    reasoning: _Rate | None
    per_request: Decimal = _ZERO
    """US dollars for each call, whatever its tokens."""

    def cost(self, usage: Usage) -> Decimal:
        """The price of these tokens, exact; what has no rate is left out, see `covers`.

        A tiered rate is chosen by the whole input. Counts that contradict each other (some
        vendors report more cached than input) never make a negative part.
        """
        total, cached, written = (
            usage.input_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
        )
        spent = max(0, total - cached - written) * _at(self.input, total)
        if cached:
            spent += cached * _at(self.cached, total)
        if written:
            written_1h = min(usage.cache_write_1h_tokens, written)
            spent += (written - written_1h) * _at(self.cache_write, total)
            spent += written_1h * _at(self.cache_write_1h, total)
        if self.output is None or self.reasoning is None:
            pass
        elif self.reasoning is self.output:
            spent += usage.output_tokens * _at(self.output, total)
        else:
            answer = max(0, usage.output_tokens - usage.reasoning_tokens)
            spent += answer * _at(self.output, total)
            spent += usage.reasoning_tokens * _at(self.reasoning, total)
        return spent / _MILLION + self.per_request if self.per_request else spent / _MILLION

    def covers(self, usage: Usage) -> bool:
        """Whether all that was used has a rate."""
        return self.output is not None or not usage.output_tokens


class Pricing:
    """Prices calls of provider entries.

    Prices that hold at certain hours, or from a date on, are taken as of `now()`.
    """

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._steady: dict[tuple[int, str], tuple[ProviderEntry, Rates | None, CostSource]] = {}
        """What does not change with time, by the entry's identity and the model."""

    def cost(
        self, entry: ProviderEntry, model: str, usage: Usage | None, reported: Decimal | None
    ) -> tuple[Decimal | None, CostSource]:
        """What the call cost and who says so; `(None, "unknown")` when nobody can."""
        if reported is not None:
            return reported, "provider"
        rates, source = self._rates(entry, model)
        if source == "local":
            return _ZERO, source
        if rates is None or usage is None or not rates.covers(usage):
            return None, "unknown"
        return rates.cost(usage), source

    def estimate(
        self, entry: ProviderEntry, model: str, *, input_tokens: int, max_output_tokens: int | None
    ) -> Decimal | None:
        """The most a call may cost: its input uncached, its output to the limit.

        Without a limit the model's own counts; None when neither, or no price, is known.
        """
        rates, source = self._rates(entry, model)
        if source == "local":
            return _ZERO
        limit = max_output_tokens
        if limit is None:
            limit = entry.models.get(model, _NO_ENTRY).max_output_tokens
        if rates is not None and rates.output is None:
            limit = 0
        if rates is None or limit is None:
            return None
        return rates.cost(Usage(input_tokens=input_tokens, output_tokens=limit))

    def prices_per_million(
        self, entry: ProviderEntry, model: str
    ) -> tuple[Decimal | None, Decimal | None]:
        """US dollars for a million input and output tokens, for comparing models.

        Where the price rises with the length of the input, the first tier's.
        """
        rates, source = self._rates(entry, model)
        if source == "local":
            return _ZERO, _ZERO
        if rates is None:
            return None, None
        output = None if rates.output is None else _at(rates.output, 0)
        return _at(rates.input, 0), output

    def _rates(self, entry: ProviderEntry, model: str) -> tuple[Rates | None, CostSource]:
        key = (id(entry), model)
        steady = self._steady.get(key)
        if steady is not None:
            return steady[1:]
        rates, source, changes = self._found_rates(entry, model)
        if not changes:
            if len(self._steady) >= _LOOKUPS:
                self._steady.clear()
            self._steady[key] = (entry, rates, source)
        return rates, source

    def _found_rates(
        self, entry: ProviderEntry, model: str
    ) -> tuple[Rates | None, CostSource, bool]:
        """The rates as of now, who says so, and whether they change with time."""
        offered = entry.models.get(model, _NO_ENTRY)
        if offered.price is not None:
            return _overridden(offered.price), "override", False
        if entry.hardware in LOCAL_HARDWARE:
            return None, "local", False
        if entry.base_url is None:
            return None, "unknown", False  # a command: its models' prices are not a plan's cost
        url = None if entry.prices else str(entry.base_url)
        found = _look_up(entry.prices, url, offered.price_as or model)
        if found is None:
            return None, "unknown", False
        rates = _rates_of(found.get_prices(self._now()))
        changes = not isinstance(found.prices, ModelPrice)
        return rates, "unknown" if rates is None else "price_table", changes


@lru_cache(maxsize=_LOOKUPS)
def _look_up(provider: str | None, url: str | None, model: str) -> ModelInfo | None:
    """Find a model in the price table, by the table's provider id or the server's URL."""
    try:
        _, found = get_snapshot().find_provider_model(model, None, provider, url)
    except LookupError:
        return None
    return found


@lru_cache(maxsize=_LOOKUPS)
def _overridden(price: PriceOverride) -> Rates:
    cache_write = price.input if price.cache_write is None else price.cache_write
    return Rates(
        input=price.input,
        output=price.output,
        cached=price.input if price.cached is None else price.cached,
        cache_write=cache_write,
        cache_write_1h=cache_write,
        reasoning=price.output,
    )


def _rates_of(price: ModelPrice) -> Rates | None:
    # The table's own objects, of which there is one for each model and period. They cannot be
    # hashed; kept beside its rates, a price's identity stays its own.
    known = _TABLE_RATES.get(id(price))
    if known is None or known[0] is not price:
        known = _TABLE_RATES[id(price)] = (price, _from_table(price))
    return known[1]


def _from_table(price: ModelPrice) -> Rates | None:
    given = price.__dict__
    inputs, outputs = given.get("input_mtok"), given.get("output_mtok")
    if inputs is None:
        return None  # priced by the hour, the image, the page: not by what we count
    thoughts = given.get("output_reasoning_mtok")
    cache_write = _either(given.get("cache_write_5m_mtok"), given.get("cache_write_mtok"), inputs)
    return Rates(
        input=inputs,
        output=outputs,
        cached=_either(given.get("cache_read_mtok"), inputs),
        cache_write=cache_write,
        cache_write_1h=_either(given.get("cache_write_1h_mtok"), cache_write),
        reasoning=outputs if thoughts is None else thoughts,
        per_request=(given.get("requests_kcount") or _ZERO) / _THOUSAND,
    )


def _either(*rates: _Rate | None) -> _Rate:
    return next(rate for rate in rates if rate is not None)


def _at(rate: _Rate, input_tokens: int) -> Decimal:
    if not isinstance(rate, TieredPrices):
        return rate
    price = rate.base
    for tier in rate.tiers:
        if input_tokens <= tier.start:
            break
        price = tier.price
    return price
