"""What the operator can set of the simulator."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from millrace.providers.simulator.behaviour import StandingRate
from millrace.providers.simulator.quota import QuotaSettings
from millrace.schemas.record import Frozen

_Milliseconds = Annotated[float, Field(ge=0)]
_TokensPerSecond = Annotated[float, Field(ge=0)]


class InstanceSettings(Frozen):
    """What differs for one instance, the first part of its URLs' path."""

    models: tuple[str, ...] = ()
    """The only models it has; any name is answered when empty."""
    time_to_first_token_ms: _Milliseconds | None = None
    tokens_per_second: _TokensPerSecond | None = None
    rates: tuple[StandingRate, ...] = ()
    """Standing misbehaviour; the shares add up to at most 1."""
    quota: QuotaSettings | None = None
    """Rate limits; calls above them are answered with 429."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        total = sum(rate.share for rate in self.rates)
        if total > 1:
            raise ValueError(f"the shares of the standing rates add up to {total}, more than 1")
        return self


class SimulatorSettings(Frozen):
    """The simulator as a whole."""

    seed: int = 0
    """Answers depend on it, the model and the messages, and on nothing else."""
    time_to_first_token_ms: _Milliseconds = 0.0
    """The mean."""
    time_to_first_token_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The largest deviation from the mean, as a share of it."""
    tokens_per_second: _TokensPerSecond = 0.0
    """Pace of an answer; 0 is as fast as possible."""
    answer_tokens: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (24, 96)
    """Least and greatest length of a prose answer; equal numbers fix it."""
    dissent: Annotated[float, Field(ge=0, le=1)] = 0.1
    """How likely a model disagrees with the others on a closed question."""
    prompt_cache: bool = False
    """Count a long beginning that was sent before as cached, as the provider would."""
    models: tuple[str, ...] = ("sim-large", "sim-small", "sim-embed")
    """What an instance without a list of its own says that it offers."""
    instances: dict[str, InstanceSettings] = Field(default_factory=dict)
    ledger_path: Path | None = None
    """A file that gets each ledger line as JSON when its call has ended."""
    ledger_memory_lines: Annotated[int, Field(ge=1)] = 100_000
    """Lines beyond these rest in a temporary file; none is lost."""
    max_request_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        least, greatest = self.answer_tokens
        if least > greatest:
            raise ValueError(f"answer_tokens is {self.answer_tokens}: put the smaller number first")
        return self

    def of(self, instance: str) -> InstanceSettings:
        """What is set for an instance."""
        return self.instances.get(instance, _ANY)


_ANY = InstanceSettings()
