"""How fast a call's answer comes."""

import random
from dataclasses import dataclass
from typing import Final

from millrace.providers.simulator.behaviour import Behaviour
from millrace.providers.simulator.settings import SimulatorSettings

_SLOW_TOKENS_PER_SECOND: Final = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds to the first token and from each token to the next; 0 is no waiting."""

    first_token_seconds: float = 0.0
    token_seconds: float = 0.0

    @property
    def unhurried(self) -> bool:
        """There is time to let pass."""
        return self.first_token_seconds > 0 or self.token_seconds > 0

    def due(self, elapsed_seconds: float, tokens: int) -> int:
        """How many of the tokens are due after so much time."""
        since = elapsed_seconds - self.first_token_seconds
        if since < 0:
            return 0
        return min(tokens, 1 + int(since / self.token_seconds)) if self.token_seconds else tokens

    def moment(self, index: int) -> float:
        """When the token of this index is due, in seconds since the call came."""
        return self.first_token_seconds + index * self.token_seconds


def choose_pace(
    settings: SimulatorSettings, instance: str, behaviour: Behaviour, chance: random.Random
) -> Pace:
    """Find a call's pace: the behaviour's, else the instance's, else the general one."""
    own = settings.of(instance)
    if behaviour.latency is not None:
        first = behaviour.latency / 1000
    else:
        mean = own.time_to_first_token_ms
        first = (settings.time_to_first_token_ms if mean is None else mean) / 1000
        jitter = settings.time_to_first_token_jitter
        if first and jitter:
            first *= 1 + jitter * (2 * chance.random() - 1)
    if behaviour.slow:
        rate = _SLOW_TOKENS_PER_SECOND
    elif behaviour.pace is not None:
        rate = behaviour.pace
    else:
        rate = settings.tokens_per_second
        if own.tokens_per_second is not None:
            rate = own.tokens_per_second
    if not first and not rate:
        return _AT_ONCE
    return Pace(first, 1 / rate if rate else 0.0)


_AT_ONCE: Final = Pace()
