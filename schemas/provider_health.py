"""How providers are doing, for every router to see: `llm.provider-health`."""

from typing import ClassVar, Literal

from pydantic import Field

from millrace.schemas.errors import ErrorCode
from millrace.schemas.record import Frozen, Instant, Record

ProviderState = Literal["closed", "open", "half_open"]


class Resources(Frozen):
    """How loaded the machine is that runs the models; shares from 0 to 1, None if not known."""

    cpu: float | None = Field(default=None, ge=0, le=1)
    memory: float | None = Field(default=None, ge=0, le=1)
    gpu: float | None = Field(default=None, ge=0, le=1)
    """The busiest of several."""
    gpu_memory: float | None = Field(default=None, ge=0, le=1)
    """The fullest of several."""


class KeyAside(Frozen):
    """A key that is not used for now."""

    alias: str
    """The environment variable that holds it."""
    reason: ErrorCode
    until: Instant


class ProviderHealth(Record):
    """What one process says of a provider entry, or of one of its models.

    Several processes call the same entry, each with a circuit and a share of the queue of its
    own. All write under the same key, so compaction keeps the newest of any of them; readers
    that are there hear them all, and the others soon enough, for all is said again regularly.
    """

    schema_name: ClassVar[str] = "provider-health"

    provider: str
    model: str | None = None
    """None: the entry as a whole."""
    reporter: str
    """The process that says so."""
    state: ProviderState = "closed"
    """Of the circuit. `open` for an entry as a whole that cannot be called at all: its check
    fails, or every key is set aside."""
    since: Instant
    """When it came to that state."""
    error_rate: float = Field(default=0.0, ge=0, le=1)
    """Of the calls that ended lately."""
    calls: int = Field(default=0, ge=0)
    """How many ended lately; the rate of few says little."""
    first_token_ms: float | None = Field(default=None, ge=0)
    """Moving average."""
    total_ms: float | None = Field(default=None, ge=0)
    """Moving average."""
    in_flight: int = Field(default=0, ge=0)
    lag: int | None = Field(default=None, ge=0)
    """Calls on the entry's topic that this process has not begun; None if not known."""
    resources: Resources | None = None
    """Where the reporter runs beside a local server."""
    keys_aside: tuple[KeyAside, ...] = ()
    reported_at: Instant

    @property
    def key(self) -> str:
        """`provider/model`, or `provider` for the entry as a whole."""
        return self.provider if self.model is None else f"{self.provider}/{self.model}"
