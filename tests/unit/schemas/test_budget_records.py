"""The records about budgets, as they lie on the ledger's topic."""

from datetime import date
from decimal import Decimal

import pytest
from pipeline_records import EPOCH, make_call

from millrace.schemas.budget import BudgetAlert, BudgetClaim, BudgetRelease, BudgetSettlement
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.record import Record

CLAIM = BudgetClaim(
    call=make_call(), usd=Decimal("0.05"), tokens=500, pending=("b", "c"), granted=("a",)
)
SETTLEMENT = BudgetSettlement(
    budget="a", claim_id="r1/0/1", invocation="i1", usd=None, tokens=90, final=False
)
ALERT = BudgetAlert(
    budget="a",
    window="month",
    window_start=date(2026, 3, 1),
    share=Decimal("0.8"),
    spent_usd=Decimal("80.000000000001"),
    limit_usd=Decimal(100),
    spent_tokens=7,
    at=EPOCH,
)


@pytest.mark.parametrize(
    "record", [CLAIM, SETTLEMENT, BudgetRelease(budget="a", claim_id="r1/0/1"), ALERT]
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    """With amounts exact, and its schema in the headers."""
    assert type(record).decode(record.encode(), record.kafka_headers()) == record
    assert dict(record.kafka_headers())["schema"].startswith(b"budget-")


def test_amounts_are_decimal_strings() -> None:
    """As money is in every record."""
    assert b'"usd":"0.05"' in CLAIM.encode()
    assert b'"share":"0.8"' in ALERT.encode()


def test_a_claim_is_known_by_its_attempt() -> None:
    """So that the same attempt never reserves twice."""
    assert CLAIM.claim_id == "r1/0/1"


@pytest.mark.parametrize(
    ("pending", "granted"), [((), ()), (("a", "a"), ()), (("a",), ("a",)), (("A b",), ())]
)
def test_a_claim_names_each_budget_once_and_at_least_one(
    pending: tuple[str, ...], granted: tuple[str, ...]
) -> None:
    """Anything else is no claim."""
    broken = CLAIM.model_copy(update={"pending": pending, "granted": granted})

    with pytest.raises(InvalidEventError):
        BudgetClaim.decode(broken.encode())
