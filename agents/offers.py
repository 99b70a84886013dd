"""What can be asked: the models of all enabled provider entries, as routing sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from millrace.schemas.call import Candidate
from millrace.schemas.vocabulary import LOCAL_HARDWARE, Capability, Hardware, TaskType

DEFAULT_OUTPUT_TOKENS = 1_024
"""The length of an answer to reckon with where the request does not bound it."""

_UNKNOWN = Decimal("Infinity")


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
    quality_by_task: Mapping[TaskType, int] = field(default_factory=dict, hash=False)
    """The same for tasks at which it is better or worse than in general."""
    tier: int | None = None
    """Its place in cascades, from 0 for the cheapest; None: by price and quality."""
    input_usd_per_million: Decimal | None = None
    """US dollars for a million prompt tokens; None when unknown."""
    output_usd_per_million: Decimal | None = None
    """US dollars for a million tokens of the answer; None when unknown."""
    dimensions: int | None = None
    """Of embedding models: the length of a vector unless another is asked; None when unknown."""
    max_inputs: int | None = None
    """Of embedding models: how many texts are taken at once; None when there is no bound."""

    planned: Candidate = field(init=False, repr=False, compare=False)
    """This offer as a plan without tiers names it."""
    local: bool = field(init=False, repr=False, compare=False)
    """Whether it runs on the operator's own hardware."""
    qualified_name: str = field(init=False, repr=False, compare=False)
    """`provider/model`."""
    only_embeds: bool = field(init=False, repr=False, compare=False)
    """Whether it makes vectors, and no answers."""
    prices: tuple[Decimal, Decimal] | None = field(init=False, repr=False, compare=False)
    """US dollars for a million tokens of prompt and of answer; None when one is unknown. What
    is not priced and runs locally is free, and so is the answer where there is none."""

    rates: tuple[float, float] | None = field(init=False, repr=False, compare=False)
    """`prices` as floats, for comparing thousands of offers."""
    price: Decimal = field(init=False, repr=False, compare=False)
    """What to order by: both prices together, infinite when one is unknown."""
    likely_answer: int = field(init=False, repr=False, compare=False)
    """Tokens of an answer to reckon with where the request does not bound it."""

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
        object.__setattr__(
            self, "rates", tuple(map(float, known)) if len(known) == len(prices) else None
        )
        object.__setattr__(self, "price", sum(known) if len(known) == len(prices) else _UNKNOWN)
        likely = min(DEFAULT_OUTPUT_TOKENS, self.max_output_tokens or DEFAULT_OUTPUT_TOKENS)
        object.__setattr__(self, "likely_answer", likely)
        object.__setattr__(self, "planned", self.in_tier(0))

    def in_tier(self, tier: int) -> Candidate:
        """This offer as a plan with tiers names it."""
        return Candidate(
            provider=self.provider, model=self.model, hardware=self.hardware, tier=tier
        )

    def quality_for(self, task: TaskType) -> int:
        """The operator's rating for a task."""
        return self.quality_by_task.get(task, self.quality)
