"""How the simulator is to behave in one call."""

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from millrace.schemas.record import Frozen

AfterTokens = Annotated[int, Field(ge=0)]
"""A place in the answer: after so many tokens, at the latest before its end marker."""

FAULTS: Final = frozenset(
    {"http", "hang", "hang_mid", "cut", "cut_cleanly", "malformed", "error_in_stream"}
)
"""The behaviours that exclude one another."""


class Behaviour(Frozen):
    """What differs from a plain good answer; a field left out changes nothing."""

    http: Annotated[int, Field(ge=400, le=599)] | None = None
    """Answer with this status and the wire's error body."""
    retry_after: Annotated[float, Field(ge=0)] | None = None
    """Seconds; sent with an error status."""
    hang: bool = False
    """Take the request and never send a byte."""
    hang_mid: AfterTokens | None = None
    """Fall silent after so many tokens."""
    cut: AfterTokens | None = None
    """Close the connection after so many tokens."""
    cut_cleanly: AfterTokens | None = None
    """End the HTTP body in good order after so many tokens, without the wire's end marker."""
    malformed: AfterTokens | None = None
    """Send a broken frame after so many tokens, then go on."""
    error_in_stream: AfterTokens | None = None
    """Send the wire's error event after so many tokens of a 200 and end there."""
    slow: bool = False
    """Trickle: one token a second."""
    wrong_json: bool = False
    """Answer prose where JSON was asked."""
    empty: bool = False
    """Answer with no text."""
    no_usage: bool = False
    """Leave the usage out."""
    answer: str | None = None
    """Say exactly this."""
    tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Length of the answer, where it is prose."""
    latency: Annotated[float, Field(ge=0)] | None = None
    """Milliseconds to the first token."""
    pace: Annotated[float, Field(ge=0)] | None = None
    """Tokens a second; 0 is as fast as possible."""
    probability: Annotated[float, Field(gt=0, le=1)] | None = None
    """How probable each token of the answer is said to be, where the request asks."""
    label: Annotated[str, Field(max_length=200)] | None = None
    """Written into the ledger, to find the call again."""

    @model_validator(mode="after")
    def _one_fault(self) -> Self:
        faults = sorted(
            name
            for name in FAULTS
            if getattr(self, name) is not None and getattr(self, name) is not False
        )
        if len(faults) > 1:
            raise ValueError(f"{' and '.join(faults)} exclude one another: give one of them")
        return self

    @property
    def fault(self) -> str | None:
        """The name of what goes wrong, if anything does."""
        for name in FAULTS & self.model_fields_set:
            value = getattr(self, name)
            if value is not None and value is not False:
                return name
        return None

    def over(self, other: "Behaviour") -> "Behaviour":
        """Lay this behaviour over another: what it sets wins, and its fault replaces a fault."""
        if other is PLAIN:
            return self
        named = Behaviour.model_fields.keys()
        chosen = {name: getattr(self, name) for name in self.model_fields_set & named}
        under = {name: getattr(other, name) for name in other.model_fields_set & named}
        if self.fault is not None:
            under = {name: value for name, value in under.items() if name not in FAULTS}
        return Behaviour(**{**under, **chosen})


PLAIN: Final = Behaviour()
"""A plain good answer."""


class ScriptedBehaviour(Behaviour):
    """A behaviour for the next calls that match."""

    instance: str | None = None
    model: str | None = None
    times: Annotated[int, Field(ge=1)] = 1


class Directive(Behaviour):
    """A behaviour that stands in the request's own text."""

    times: Annotated[int, Field(ge=1)] | None = None
    """Only for the first so many calls with the same messages; for all of them when unset."""
    only: str | None = None
    """Only for calls to this instance."""
    where: str | None = None
    """Only for calls whose last user message holds this text. Such a directive may stand in any
    user message, so that a request can command later steps of its own work."""


class StandingRate(Frozen):
    """A share of all calls that get a behaviour."""

    share: Annotated[float, Field(gt=0, le=1)]
    behaviour: Behaviour
