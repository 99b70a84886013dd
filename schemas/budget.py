"""Asking budgets for room before a call, and telling them what it cost: records on `llm.usage`.

All are keyed by the budget's name, so that one reader at a time decides about a budget, in the
order of the topic.
"""

from datetime import date
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from millrace.schemas.call import Call
from millrace.schemas.record import Instant, Record
from millrace.schemas.usage import Money

BudgetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
"""Lower case letters, digits, `.`, `_` and `-`; the key of everything about the budget."""

BudgetWindow = Literal["day", "month"]
"""After which time a budget begins anew, at midnight UTC."""


class BudgetClaim(Record):
    """A call that may be made once every budget it counts against has granted it.

    It lies under the first of `pending`. The budget that grants it sends it on to the next, the
    last one sends the call itself to its provider.
    """

    schema_name: ClassVar[str] = "budget-claim"

    kind: Literal["claim"] = "claim"
    call: Call
    usd: Money | None
    """The most that the call may cost, None when its price is unknown."""
    tokens: int = Field(ge=0)
    """The most that the call may use, input and output together."""
    pending: tuple[BudgetName, ...] = Field(min_length=1)
    """The budgets still to be asked."""
    granted: tuple[BudgetName, ...] = ()
    """The budgets that hold a reservation for the call."""

    @model_validator(mode="after")
    def _each_budget_once(self) -> Self:
        names = (*self.pending, *self.granted)
        if len(set(names)) < len(names):
            raise ValueError("a budget is named twice")
        return self

    @property
    def claim_id(self) -> str:
        """What the reservation is known by: the attempt's id."""
        return self.call.attempt_id


class BudgetSettlement(Record):
    """What one invocation of a granted call cost; takes the reservation's place."""

    schema_name: ClassVar[str] = "budget-settlement"

    kind: Literal["settlement"] = "settlement"
    budget: BudgetName
    claim_id: str
    invocation: str
    usd: Money | None
    """None when unknown: the reserved amount counts instead."""
    tokens: int = Field(ge=0)
    """Input and output together."""
    final: bool = True
    """False when the call was broken off and will be made again: the reservation stays."""


class BudgetRelease(Record):
    """Gives a reservation back: another budget refused the call, which is not made."""

    schema_name: ClassVar[str] = "budget-release"

    kind: Literal["release"] = "release"
    budget: BudgetName
    claim_id: str


class BudgetAlert(Record):
    """Says once in a window that a share of a budget has been spent."""

    schema_name: ClassVar[str] = "budget-alert"

    kind: Literal["alert"] = "alert"
    budget: BudgetName
    window: BudgetWindow
    window_start: date
    share: Money
    """The share that was reached, as configured: 0.8 for four fifths."""
    spent_usd: Money
    limit_usd: Money | None = None
    spent_tokens: int = Field(ge=0)
    limit_tokens: int | None = None
    at: Instant
    """The time stamp of the record by which it was reached."""
