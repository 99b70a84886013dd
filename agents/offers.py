"""What can be asked: the models of all enabled provider entries, as routing sees them."""

from dataclasses import dataclass, field
from decimal import Decimal

from millrace.schemas.call import Candidate
from millrace.schemas.vocabulary import LOCAL_HARDWARE, Capability, Hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model of a provider entry, with what is known of it."""

    provider: str
    model: str
    hardware: Hardware = "cloud"
    capabilities: frozenset[Capability] = frozenset()
    context_window: int | None = None
    """Prompt and answer together, in tokens; None when unknown."""
    max_output_tokens: int | None = None
    """The longest answer, in tokens; None when unknown."""
    quality: int = 50
    """The operator's rating, 0 to 100."""
    input_usd_per_million: Decimal | None = None
    """US dollars for a million prompt tokens; None when unknown."""
    output_usd_per_million: Decimal | None = None
    """US dollars for a million tokens of the answer; None when unknown."""
    dimensions: int | None = None
    """Of embedding models: the length of a vector unless another is asked; None when unknown."""
    max_inputs: int | None = None
    """Of embedding models: how many texts are taken at once; None when there is no bound."""

    local: bool = field(init=False, repr=False, compare=False)
    """Whether it runs on the operator's own hardware."""
    qualified_name: str = field(init=False, repr=False, compare=False)
    """`provider/model`."""
    only_embeds: bool = field(init=False, repr=False, compare=False)
    """Whether it makes vectors, and no answers."""
    prices: tuple[Decimal, Decimal] | None = field(init=False, repr=False, compare=False)
    """US dollars for a million tokens of prompt and of answer; None when one is unknown. What
    is not priced and runs locally is free, and so is the answer where there is none."""

    def __post_init__(self) -> None:
        local = self.hardware in LOCAL_HARDWARE
        only_embeds = self.capabilities == {"embeddings"}
        prices = [
            Decimal(0) if price is None and free else price
            for price, free in (
                (self.input_usd_per_million, local),
                (self.output_usd_per_million, local or only_embeds),
            )
        ]
        known = [price for price in prices if price is not None]
        object.__setattr__(self, "local", local)
        object.__setattr__(self, "only_embeds", only_embeds)
        object.__setattr__(self, "qualified_name", f"{self.provider}/{self.model}")
        object.__setattr__(self, "prices", tuple(known) if len(known) == len(prices) else None)

    def candidate(self) -> Candidate:
        """This offer as a plan names it."""
        return Candidate(provider=self.provider, model=self.model, hardware=self.hardware)
