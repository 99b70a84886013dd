"""Keeping calls away from a model that does not answer, and finding out when it does again.

closed ──(failures in a row, or an error rate)──► open ──(time)──► half-open
▲                                                ▲                  │  │
└──────────────(enough probes answered)──────────┼──────────────────┘  │
└──(a probe failed)───┘
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import Field

from millrace.providers.error_window import ErrorWindow
from millrace.schemas.errors import ErrorCode, ProviderError
from millrace.schemas.record import Frozen

CircuitState = Literal["closed", "open", "half_open"]
Ending = Literal["answered", "failed", "unknown"]
"""What a call told of the provider; `unknown` for one that was broken off by us."""

_FAILED: frozenset[ErrorCode] = frozenset(
    {"provider_unavailable", "provider_timeout", "stream_truncated", "reply_invalid"}
)
_ANSWERED: frozenset[ErrorCode] = frozenset(
    {"request_refused", "context_length_exceeded", "content_filtered"}
)
"""It looked at the request and said no: the provider is well."""


class CircuitSettings(Frozen):
    """When calls to a model are stopped, and when they are tried again."""

    consecutive_failures: int = Field(default=5, ge=1)
    """So many failures in a row open the circuit."""
    error_rate: float = Field(default=0.5, gt=0, le=1)
    """This share of failures within the window opens it."""
    minimum_calls: int = Field(default=20, ge=1)
    """The rate of fewer calls than this says nothing."""
    window_seconds: float = Field(default=30.0, gt=0)
    open_seconds: float = Field(default=10.0, gt=0)
    """How long it stays open at first; doubled each time that a probe fails."""
    max_open_seconds: float = Field(default=120.0, gt=0)
    probes: int = Field(default=2, ge=1)
    """How many calls may be under way at once while half-open, and how many of them must be
    answered in a row to close it."""


def ending(error: ProviderError | None) -> Ending:
    """What the end of a call tells of the provider; None for a call that was answered.

    A rate limit, a wrong key and a model that is not there say nothing about its health: those
    are the business of the rate limit, the keys and the route.
    """
    if error is None or error.code in _ANSWERED:
        return "answered"
    return "failed" if error.code in _FAILED else "unknown"


class Permit(NamedTuple):
    """Allows one call; to be handed back with how the call ended."""

    generation: int
    """The state that it was given in; its end tells nothing of a later one."""
    probe: bool


class Circuit:
    """The circuit of one model of a provider entry; every operation takes constant time.

    Not for several threads. `now` gives seconds that never go back. `on_change` is called after
    a change of state; that an open circuit is due for probes shows when somebody looks.
    """

    def __init__(
        self,
        *,
        settings: CircuitSettings,
        now: Callable[[], float],
        on_change: Callable[[CircuitState], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._now = now
        self._on_change = on_change
        self._window = ErrorWindow(seconds=settings.window_seconds)
        self._state: CircuitState = "closed"
        self._since = now()
        self._generation = 0
        self._in_a_row = 0
        self._probing = 0
        self._open_seconds = settings.open_seconds

    @property
    def state(self) -> CircuitState:
        """The state now; looking makes an open circuit half-open when its time has come."""
        if self._state == "open" and self._now() >= self._since + self._open_seconds:
            self._become("half_open")
        return self._state

    @property
    def since(self) -> float:
        """When the state was entered, on the clock that was given."""
        return self._since

    @property
    def error_rate(self) -> float:
        """The share of failures among the calls of the window, from 0 to 1."""
        return self._window.rate(self._now())

    @property
    def counts(self) -> tuple[int, int]:
        """The calls that ended within the window and told something, and the failed ones."""
        return self._window.counts(self._now())

    @property
    def retry_after(self) -> float:
        """Seconds until an open circuit lets probes through; 0 in the other states."""
        if self.state != "open":
            return 0.0
        return self._since + self._open_seconds - self._now()

    def begin(self) -> Permit | None:
        """Ask to make a call; None when it may not be made now. Every permit must be ended."""
        state = self.state
        if state == "closed":
            return Permit(self._generation, probe=False)
        if state == "open" or self._probing >= self._settings.probes:
            return None
        self._probing += 1
        return Permit(self._generation, probe=True)

    def end(self, permit: Permit, how: Ending) -> None:
        """Hand a permit back, once."""
        if permit.generation != self._generation:
            # A call from before the last change: the newer ones know better.
            return
        if permit.probe:
            self._end_probe(how)
        elif how != "unknown":
            self._count(failed=how == "failed")

    def _count(self, *, failed: bool) -> None:
        now = self._now()
        self._window.add(now, failed=failed)
        if not failed:
            self._in_a_row = 0
            if now - self._since >= self._settings.window_seconds:
                self._open_seconds = self._settings.open_seconds
            return
        self._in_a_row += 1
        settings = self._settings
        calls, failures = self._window.counts(now)
        often = calls >= settings.minimum_calls and failures >= settings.error_rate * calls
        if often or self._in_a_row >= settings.consecutive_failures:
            self._become("open")

    def _end_probe(self, how: Ending) -> None:
        self._probing -= 1
        if how == "failed":
            longest = max(self._settings.max_open_seconds, self._settings.open_seconds)
            self._open_seconds = min(longest, 2 * self._open_seconds)
            self._become("open")
        elif how == "answered":
            self._in_a_row += 1
            if self._in_a_row >= self._settings.probes:
                self._become("closed")

    def _become(self, state: CircuitState) -> None:
        self._state = state
        self._since = self._now()
        self._generation += 1
        self._in_a_row = 0
        self._probing = 0
        if state == "closed":
            self._window.clear()
        self._on_change(state)


class Circuits:
    """The circuits of one provider entry, one for each model that was asked for."""

    def __init__(
        self,
        *,
        settings: CircuitSettings,
        now: Callable[[], float],
        on_change: Callable[[str, CircuitState], None] = lambda _model, _state: None,
    ) -> None:
        self._settings = settings
        self._now = now
        self._on_change = on_change
        self._by_model: dict[str, Circuit] = {}

    def of(self, model: str) -> Circuit:
        """The circuit of a model; the same one each time."""
        circuit = self._by_model.get(model)
        if circuit is None:
            circuit = self._by_model[model] = Circuit(
                settings=self._settings,
                now=self._now,
                on_change=lambda state: self._on_change(model, state),
            )
        return circuit

    def items(self) -> tuple[tuple[str, Circuit], ...]:
        """Every model that was asked for, with its circuit."""
        return tuple(self._by_model.items())
