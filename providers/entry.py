"""A provider entry: what the config file says of one model server."""

from typing import Literal

from pydantic import Field, HttpUrl

from millrace.schemas.record import Frozen
from millrace.schemas.usage import Money
from millrace.schemas.vocabulary import Capability, Hardware

Wire = Literal["openai", "anthropic", "gemini", "ollama"]


class PriceOverride(Frozen):
    """US dollars for a million tokens, in place of the price table's."""

    input: Money
    output: Money
    cached: Money | None = None
    """The input price when unset."""
    cache_write: Money | None = None
    """The input price when unset."""


class ModelEntry(Frozen):
    """A model that an entry offers."""

    capabilities: tuple[Capability, ...] = ()
    context_window: int | None = Field(default=None, ge=1)
    """In tokens."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    quality: int = Field(default=50, ge=0, le=100)
    """The operator's rating, for choosing between models."""
    price: PriceOverride | None = None
    price_as: str | None = None
    """The name the price table knows it by, where that differs."""


class Limits(Frozen):
    """What one caller process may have under way at this entry."""

    in_flight: int = Field(default=256, ge=1)


class Timeouts(Frozen):
    """In seconds."""

    connect: float = Field(default=10.0, gt=0)
    first_token: float = Field(default=120.0, gt=0)
    """From sending the request to the first byte of the body."""
    idle: float = Field(default=60.0, gt=0)
    """Between two pieces of a stream."""


class ProviderEntry(Frozen):
    """A name in the config file for a model server and how to talk to it."""

    wire: Wire
    base_url: HttpUrl
    """Up to, not including, the path of the wire (`…/v1` for the openai wire)."""
    api_key_env: tuple[str, ...] = ()
    """Names of environment variables that hold keys; never keys."""
    models: dict[str, ModelEntry] = Field(default_factory=dict)
    """Empty: whatever the server lists when the pipeline starts, which only local servers may."""
    hardware: Hardware = "cloud"
    prices: str | None = None
    """The price table's id for this provider (`openai`, `anthropic`, `google`, …)."""
    headers: dict[str, str] = Field(default_factory=dict)
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    enabled: bool = True
    simulated: bool = False
    """True for the simulator: its answers are marked as such wherever they are shown."""
