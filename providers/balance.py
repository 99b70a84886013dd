"""Choosing among the instances or keys of one provider entry."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from millrace.schemas.errors import ErrorCode, ProviderError
from millrace.schemas.record import Frozen

BalancePolicy = Literal["round_robin", "weighted", "least_in_flight", "latency_aware"]

_LATENCY_SECONDS = 10.0
"""How fast a measured latency is forgotten: by two thirds in this time."""


class BalanceSettings(Frozen):
    """How calls are spread over the instances or keys of an entry."""

    policy: BalancePolicy = "round_robin"
    weights: dict[str, float] = Field(default_factory=dict)
    """By name, for `weighted`; 1 for those left out."""
    key_refused_seconds: float = Field(default=600.0, gt=0)
    """How long a key is left alone that was answered with 401."""
    key_exhausted_seconds: float = Field(default=3600.0, gt=0)
    """How long a key is left alone whose quota or spending cap is used up, unless told."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """An instance or key that gets no calls until a time, and why."""

    name: str
    until: float
    reason: ErrorCode


@dataclass(slots=True)
class _Target:
    name: str
    weight: float
    in_flight: int = 0
    credit: float = 0.0
    latency: float = 0.0
    measured_at: float = -math.inf
    aside: SetAside | None = None


class Balancer:
    """Chooses where each call of an entry goes, skipping what is set aside.

    - `round_robin`: in turn. `weighted`: in turn, evenly spread in proportion to the weights.
    - `least_in_flight`: to the one with the fewest calls under way; in turn among equals.
    - `latency_aware`: of two drawn by chance the one whose latency times its calls under way is
      less. Latency is a moving average that fades while nobody asks, so that a slow one gets
      another chance.

    `now` gives seconds that never go back, `draw` a number from 0 up to 1. Not for several
    threads.

    Raises:
        ValueError: There is no target, a name comes twice, or a weight is not above 0.
    """

    def __init__(
        self,
        *,
        names: tuple[str, ...],
        settings: BalanceSettings,
        now: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        if not names or len(set(names)) < len(names):
            raise ValueError(f"targets must be named, each once: {', '.join(names) or 'none is'}")
        self._settings = settings
        self._now = now
        self._draw = draw
        self._targets = [_Target(name, _weight(name, settings.weights)) for name in names]
        self._by_name = {target.name: target for target in self._targets}
        self._choose: Callable[[list[_Target]], _Target] = {
            "round_robin": self._in_turn,
            "weighted": self._by_weight,
            "least_in_flight": self._least_busy,
            "latency_aware": self._quicker_of_two,
        }[settings.policy]
        self._last = -1

    def choose(self, has_room: Callable[[str], bool] | None = None) -> str | None:
        """The name of where the next call goes; None while everything is set aside.

        Those without room are passed over, unless that leaves none. The call counts as under
        way there until it is given back.
        """
        usable = self._usable()
        if not usable:
            return None
        if has_room is not None and len(usable) > 1:
            usable = [target for target in usable if has_room(target.name)] or usable
        target = usable[0] if len(usable) == 1 else self._choose(usable)
        target.in_flight += 1
        return target.name

    def give_back(self, name: str, *, seconds: float | None = None) -> None:
        """End a call; `seconds` until its first token, where one came.

        Raises:
            KeyError: There is no target of that name.
        """
        target = self._by_name[name]
        target.in_flight -= 1
        if seconds is None:
            return
        now = self._now()
        # A long pause leaves little of the old average, a burst of replies much.
        kept = math.exp(-(now - target.measured_at) / _LATENCY_SECONDS)
        if target.measured_at == -math.inf or seconds > target.latency:
            kept = 0.0  # a peak is believed at once
        target.latency = kept * target.latency + (1 - kept) * seconds
        target.measured_at = now

    def note(self, name: str, error: ProviderError) -> SetAside | None:
        """Set a target aside if its failure is the key's own fault; what is to be reported.

        That is: a key that is refused, or whose quota or spending cap is used up. None when it
        stays, or was set aside already.
        """
        settings = self._settings
        if error.code == "authentication_failed":
            seconds = settings.key_refused_seconds
        elif error.code == "rate_limited" and not error.retryable:
            seconds = error.retry_after or settings.key_exhausted_seconds
        else:
            return None
        return self.set_aside(name, seconds=seconds, reason=error.code)

    def set_aside(self, name: str, *, seconds: float, reason: ErrorCode) -> SetAside | None:
        """Give a target no calls for so long; None if that was known already.

        Raises:
            KeyError: There is no target of that name.
        """
        target = self._by_name[name]
        known = target.aside is not None and target.aside.until > self._now()
        target.aside = SetAside(name, self._now() + seconds, reason)
        return None if known else target.aside

    def restore(self, name: str) -> None:
        """Give a target calls again: its key was changed, or a check succeeded."""
        self._by_name[name].aside = None

    @property
    def aside(self) -> tuple[SetAside, ...]:
        """What is set aside now."""
        now = self._now()
        return tuple(
            target.aside
            for target in self._targets
            if target.aside is not None and target.aside.until > now
        )

    @property
    def in_flight(self) -> Mapping[str, int]:
        """Calls under way, by name."""
        return {target.name: target.in_flight for target in self._targets}

    def _usable(self) -> list[_Target]:
        now = self._now()
        usable = []
        for target in self._targets:
            if target.aside is not None and target.aside.until <= now:
                target.aside = None
            if target.aside is None:
                usable.append(target)
        return usable

    def _in_turn(self, usable: list[_Target]) -> _Target:
        """The next after the last one in the order given, whoever is missing."""
        wanted = {id(target) for target in usable}
        count = len(self._targets)
        for step in range(1, count + 1):
            index = (self._last + step) % count
            if id(self._targets[index]) in wanted:
                self._last = index
                return self._targets[index]
        raise RuntimeError("nothing was usable")

    def _by_weight(self, usable: list[_Target]) -> _Target:
        """Smooth weighted round robin: the richest in credit pays what all of them earned."""
        total = 0.0
        for target in usable:
            target.credit += target.weight
            total += target.weight
        richest = max(usable, key=lambda target: target.credit)
        richest.credit -= total
        return richest

    def _least_busy(self, usable: list[_Target]) -> _Target:
        fewest = min(target.in_flight for target in usable)
        return self._in_turn([target for target in usable if target.in_flight == fewest])

    def _quicker_of_two(self, usable: list[_Target]) -> _Target:
        count = len(usable)
        first = int(self._draw() * count)
        second = int(self._draw() * (count - 1))
        second += second >= first
        now = self._now()
        return min(usable[first], usable[second], key=lambda target: _load(target, now))


def _load(target: _Target, now: float) -> float:
    """What one more call would wait for, as far as can be told.

    An idle one that nobody has measured comes first.
    """
    idle = now - target.measured_at
    faded = target.latency * math.exp(-idle / _LATENCY_SECONDS) if target.latency else 0.0
    return (faded + 1e-3) * (target.in_flight + 1)


def _weight(name: str, weights: Mapping[str, float]) -> float:
    weight = weights.get(name, 1.0)
    if not 0 < weight < math.inf:
        raise ValueError(f"the weight of {name!r} must be above 0, not {weight!r}")
    return weight
