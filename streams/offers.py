"""What the router can choose from, made from the provider entries."""

from collections.abc import Mapping

from millrace.agents.offers import Offer
from millrace.providers.entry import ModelEntry, ProviderEntry, WireName
from millrace.providers.pricing import Pricing
from millrace.providers.wires.gemini_embeddings import GeminiEmbeddings
from millrace.providers.wires.openai_embeddings import OpenAiEmbeddings

_MOST_INPUTS: dict[WireName, int | None] = {
    "openai": OpenAiEmbeddings.max_inputs,
    "gemini": GeminiEmbeddings.max_inputs,
}


def offers(entries: Mapping[str, ProviderEntry], pricing: Pricing) -> tuple[Offer, ...]:
    """An offer for each model of each entry."""
    found: list[Offer] = []
    for name, entry in entries.items():
        for model, facts in entry.models.items():
            input_price, output_price = pricing.prices_per_million(entry, model)
            found.append(
                Offer(
                    provider=name,
                    model=model,
                    hardware=entry.hardware,
                    capabilities=frozenset(facts.capabilities),
                    context_window=facts.context_window,
                    max_output_tokens=facts.max_output_tokens,
                    quality=facts.quality,
                    quality_by_task=facts.quality_by_task,
                    tier=facts.tier,
                    input_usd_per_million=input_price,
                    output_usd_per_million=output_price,
                    dimensions=facts.dimensions,
                    max_inputs=_most_inputs(entry, facts),
                )
            )
    return tuple(found)


def _most_inputs(entry: ProviderEntry, facts: ModelEntry) -> int | None:
    bounds = (facts.max_inputs, _MOST_INPUTS.get(entry.wire))
    return min((each for each in bounds if each is not None), default=None)
