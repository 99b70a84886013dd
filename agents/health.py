"""What a planner may know of how a model is doing."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHealth:
    """How a provider entry's model is doing, as its callers measured it lately."""

    usable: bool = True
    """False only when every process that calls it says that its circuit is open."""
    penalty: float = 0.0
    """What speaks against going there, from 0 (nothing) to 1 (it would be in vain)."""
    lag: int | None = None
    """Calls that wait on the entry's topic, for any of its models; None if not known."""
    in_flight: int = 0
    """Calls under way at the entry, with any of its models."""
    first_token_ms: float | None = None
    """Milliseconds to the first token, a moving average; None if not measured yet."""
    total_ms: float | None = None
    """Milliseconds to the end of an answer, a moving average; None if not measured yet."""


HealthOf = Callable[[str, str], ModelHealth | None]
"""Given a provider entry's name and a model's, tells its health; None where nobody speaks of it.

It may answer differently each time; what is planned with it is no longer a function of the
request alone, so a redelivered request may get another plan.
"""
