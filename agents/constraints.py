"""What a request demands of a model, and where a model falls short of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple, Self

from millrace.agents.offers import Offer
from millrace.schemas.call import Job
from millrace.schemas.request import Route
from millrace.schemas.vocabulary import Capability, HardwareWish, Strategy, TaskType

_MILLION = Decimal(1_000_000)
_SHOWN = Decimal("0.000000001")
_FLOAT_ERROR = 1e-9


class Constraints(NamedTuple):
    """What the route of a request says, apart from sizes: equal for many requests.

    A tuple, as one is made for each request and looked up twice.
    """

    task: TaskType
    strategy: Strategy
    private: bool
    hardware: HardwareWish
    providers: tuple[str, ...]
    models: tuple[str, ...]
    prefer_providers: tuple[str, ...]
    prefer_models: tuple[str, ...]
    capabilities: frozenset[Capability]
    output: Capability | None
    """What helps with the output format; it orders, and never excludes."""
    min_quality: int = 0
    """The least rating for the task."""

    @classmethod
    def of(
        cls,
        job: Job,
        route: Route,
        strategy: Strategy,
        *,
        capabilities: Iterable[Capability],
        output: Capability | None = None,
        min_quality: int = 0,
    ) -> Self:
        """What a request demands by its route; `capabilities` are those that its content needs."""
        return cls(
            task=job.task,
            strategy=strategy,
            private="private" in {job.sensitivity, route.sensitivity},
            hardware=route.hardware,
            providers=route.providers,
            models=route.models,
            prefer_providers=route.prefer_providers,
            prefer_models=route.prefer_models,
            capabilities=frozenset((*route.capabilities, *capabilities)),
            output=output,
            min_quality=min_quality,
        )

    def admits(self, offer: Offer) -> bool:
        """Whether the offer does: the same as having no `misfits`, in a fraction of the time."""
        if not offer.local:
            if self.private or self.strategy == "local_only":
                return False
        elif self.strategy == "cloud_only":
            return False
        return (
            self._runs_where_wished(offer)
            and (not self.providers or offer.provider in self.providers)
            and (not self.models or _named(offer, self.models))
            and self.capabilities <= offer.capabilities
            and (not offer.only_embeds or "embeddings" in self.capabilities)
            and (not self.min_quality or offer.quality_for(self.task) >= self.min_quality)
        )

    def misfits(self, offer: Offer) -> Iterator[str]:
        """Say each way in which the offer does not do; nothing when it does."""
        yield from self.out_of_bounds(offer)
        yield from self.shortcomings(offer)
        quality = offer.quality_for(self.task)
        if quality < self.min_quality:
            yield f"its quality {quality} is below {self.min_quality}"

    def out_of_bounds(self, offer: Offer) -> Iterator[str]:
        """Say in which ways it runs where the request may not go; no policy mends that."""
        if self.private and not offer.local:
            yield "the request is private and this runs in the cloud"
        if self.strategy == "local_only" and not offer.local:
            yield "strategy 'local_only' excludes the cloud"
        if self.strategy == "cloud_only" and offer.local:
            yield "strategy 'cloud_only' excludes local hardware"
        if not self._runs_where_wished(offer):
            yield f"it runs on {offer.hardware}, not on {self.hardware}"

    def shortcomings(self, offer: Offer) -> Iterator[str]:
        """Say what it is, or can, that was not asked for."""
        if self.providers and offer.provider not in self.providers:
            yield "not among the providers asked for"
        if self.models and not _named(offer, self.models):
            yield "not among the models asked for"
        if offer.only_embeds and "embeddings" not in self.capabilities:
            yield "it makes embeddings, and no answers"
        if not self.capabilities <= offer.capabilities:
            yield f"it lacks {', '.join(sorted(self.capabilities - offer.capabilities))}"

    def preference(self, offer: Offer) -> tuple[int, int]:
        """The place that `prefer_models` and, within it, `prefer_providers` give the offer."""
        return (
            _position(self.prefer_models, offer.model, offer.qualified_name),
            _position(self.prefer_providers, offer.provider, offer.provider),
        )

    def _runs_where_wished(self, offer: Offer) -> bool:
        if self.hardware == "any":
            return True
        if self.hardware == "local":
            return offer.local
        return offer.hardware == self.hardware


class Floor(NamedTuple):
    """What no offer of several is below: US dollars for a million tokens, and answer tokens."""

    prompt: float
    answer: float
    answer_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large a request is, and what it may cost: differs with each request."""

    prompt_tokens: int
    max_output_tokens: int | None
    max_cost_usd: Decimal | None
    """For one model's answer."""
    bound: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bound = float("inf") if self.max_cost_usd is None else float(self.max_cost_usd)
        object.__setattr__(self, "bound", bound)

    @property
    def key(self) -> tuple[int, int | None, Decimal | None]:
        """What they are equal by."""
        return self.prompt_tokens, self.max_output_tokens, self.max_cost_usd

    def fits(self, offer: Offer) -> bool:
        """Whether the offer is large enough and cheap enough."""
        answer = self.max_output_tokens or offer.likely_answer
        window = offer.context_window
        most = offer.max_output_tokens
        if (most is not None and answer > most) or (
            window is not None and self.prompt_tokens + answer > window
        ):
            return False
        if self.max_cost_usd is None:
            return True
        rates = offer.rates
        if rates is None:
            return False
        # Thousands of offers may be asked, and decimals are slow: they decide what is close.
        about = rates[0] * self.prompt_tokens + rates[1] * answer
        bound = self.bound * 1e6
        if abs(about - bound) > bound * _FLOAT_ERROR:
            return about < bound
        return (self.estimated_cost(offer) or Decimal(0)) <= self.max_cost_usd

    def affords(self, floor: Floor) -> bool:
        """False only where no offer above this floor can be cheap enough."""
        answer = self.max_output_tokens or floor.answer_tokens
        about = floor.prompt * self.prompt_tokens + floor.answer * answer
        return about <= self.bound * 1e6 * (1 + _FLOAT_ERROR)

    def misfit(self, offer: Offer) -> str:
        """Say why an offer does not fit."""
        answer = self.answer_tokens(offer)
        window = offer.context_window
        most = offer.max_output_tokens
        if most is not None and answer > most:
            return f"it answers with at most {most} tokens, not {answer}"
        if window is not None and self.prompt_tokens + answer > window:
            return (
                f"its context window of {window} tokens is too small for about "
                f"{self.prompt_tokens} and an answer of {answer}"
            )
        cost = self.estimated_cost(offer)
        if cost is None:
            return "its price is unknown, so that max_cost_usd cannot be kept"
        return f"it would cost about {dollars(cost)}"

    def answer_tokens(self, offer: Offer) -> int:
        """The length of the answer to reckon with."""
        return self.max_output_tokens or offer.likely_answer

    def estimated_cost(self, offer: Offer) -> Decimal | None:
        """US dollars for one call, without cached tokens; None when a price is unknown."""
        if offer.prices is None:
            return None
        prompt, answer = offer.prices
        return (prompt * self.prompt_tokens + answer * self.answer_tokens(offer)) / _MILLION


def dollars(amount: Decimal) -> str:
    """Show an amount with at most nine decimals, as estimates deserve."""
    return f"${amount.quantize(_SHOWN).normalize():f}"


def _named(offer: Offer, models: tuple[str, ...]) -> bool:
    return offer.model in models or offer.qualified_name in models


def _position(names: tuple[str, ...], *spellings: str) -> int:
    return next((i for i, name in enumerate(names) if name in spellings), len(names))
