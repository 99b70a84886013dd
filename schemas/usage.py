"""Tokens, money and time of a model call."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, PlainSerializer

from millrace.schemas.record import Frozen, InPython
from millrace.schemas.vocabulary import UsageSource


def _exact(value: Any) -> Any:
    # A JSON number arrives as a float; its shortest text is what the sender wrote.
    return Decimal(repr(value)) if isinstance(value, float) else value


def _plain(value: Decimal) -> str:
    return format(value, "f")


Money = Annotated[
    Decimal,
    # First, so that pydantic keeps to it without calling Python.
    Field(ge=0, allow_inf_nan=False),
    # A JSON number is its shortest text either way.
    InPython(_exact),
    PlainSerializer(_plain, return_type=str, when_used="json"),
]
"""US dollars, exact; a decimal string in JSON, never in scientific notation."""

MoneyLimit = Annotated[
    Decimal,
    Field(ge=0, le=1_000_000_000, allow_inf_nan=False),
    InPython(_exact),
    PlainSerializer(_plain, return_type=str, when_used="json"),
]
"""As `Money`, at most a billion: it is reckoned with, and shown, digit by digit."""


class Usage(Frozen):
    """Token counts in one convention, whatever the provider's habit.

    `input_tokens` counts cached and cache-written ones; `output_tokens` counts reasoning.
    """

    input_tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    cache_write_tokens: int = Field(default=0, ge=0)
    cache_write_1h_tokens: int = Field(default=0, ge=0)
    """The part of `cache_write_tokens` kept for an hour, which costs more."""
    output_tokens: int = Field(default=0, ge=0)
    reasoning_tokens: int = Field(default=0, ge=0)
    source: UsageSource = "reported"

    def __add__(self, other: "Usage") -> "Usage":
        """Sum two usages; the sum is estimated as soon as one part is."""
        estimated = "estimated" in (self.source, other.source)
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            source="estimated" if estimated else "reported",
        )


class Timing(Frozen):
    """How long a piece of work took, in milliseconds."""

    queued_ms: float | None = None
    time_to_first_token_ms: float | None = None
    total_ms: float | None = None
