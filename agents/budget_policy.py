"""Which budgets the operator sets, and which of them a call counts against: `[[budgets]]`."""

from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, Self

from pydantic import ConfigDict, Field, RootModel, field_validator, model_validator

from millrace.agents.policy import Pattern
from millrace.schemas.budget import BudgetName, BudgetWindow
from millrace.schemas.call import Call
from millrace.schemas.record import Frozen
from millrace.schemas.usage import Money
from millrace.schemas.vocabulary import TaskType

Share = Annotated[Money, Field(gt=0, le=100)]
"""Of a limit; 1 is all of it."""


class Budget(Frozen):
    """A limit on what calls may spend in a day or a month.

    It covers the calls that fit everything it names; one that names nothing covers all calls.
    What it covers draws on the same amount: a pattern makes one budget, not one for each match.
    """

    name: BudgetName
    """Unique. What has been spent is kept under it: another name is another budget."""
    team: Pattern | None = None
    """Who pays: the request's `budget_key`, or else its `team`."""
    task: TaskType | None = None
    provider: Pattern | None = None
    model: Pattern | None = None
    window: BudgetWindow = "day"
    usd: Money | None = None
    """US dollars in a window."""
    tokens: Annotated[int, Field(ge=0)] | None = None
    """Input and output together, in a window."""
    alerts: tuple[Share, ...] = (Decimal("0.5"), Decimal("0.8"), Decimal(1))
    """Shares of a limit, each announced once in a window when so much has been spent."""

    @field_validator("alerts")
    @classmethod
    def _in_order(cls, alerts: tuple[Share, ...]) -> tuple[Share, ...]:
        return tuple(sorted(set(alerts)))

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.usd is None and self.tokens is None:
            raise ValueError(f"budget {self.name!r} limits nothing: set usd, tokens or both")
        return self

    def covers(self, call: Call) -> bool:
        """Whether the call counts against this budget."""
        job, target = call.job, call.target
        return (
            (self.task is None or self.task == job.task)
            and _fits(self.team, job.budget_key or job.team)
            and _fits(self.provider, target.provider)
            and _fits(self.model, target.model)
        )


class BudgetPolicy(RootModel[tuple[Budget, ...]]):
    """All budgets, in the order of the config."""

    model_config = ConfigDict(frozen=True)

    root: tuple[Budget, ...] = ()

    @field_validator("root")
    @classmethod
    def _names_are_unique(cls, budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
        names = [budget.name for budget in budgets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"more than one budget is named {', '.join(map(repr, twice))}")
        return budgets

    def covering(self, call: Call) -> tuple[str, ...]:
        """The names of the budgets that the call counts against.

        Always in the order of the names, so that calls ask budgets in the same order whatever
        the order in the config of each process.
        """
        return tuple(sorted(budget.name for budget in self.root if budget.covers(call)))

    def named(self, name: str) -> Budget | None:
        """The budget of that name; None when there is none (any more)."""
        return next((budget for budget in self.root if budget.name == name), None)

    def budgets(self) -> Iterator[Budget]:
        """Every budget."""
        return iter(self.root)


def _fits(pattern: str | None, value: str | None) -> bool:
    return pattern is None or (value is not None and fnmatchcase(value, pattern))
