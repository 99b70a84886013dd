"""What a budget grants, counts and announces, case by case."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from millrace.agents.budget_account import Account, Amounts, window_end, window_start
from millrace.agents.budget_ledger import BudgetLedger, Posting
from millrace.agents.budget_policy import Budget

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GRACE = 300.0


class Book:
    """A ledger whose records come at the times that a test says, in seconds after noon."""

    def __init__(self, **limits: Any) -> None:
        self.ledger = BudgetLedger(Budget(name="b", **limits), grace_seconds=GRACE)
        self.offset = -1

    @property
    def account(self) -> Account:
        assert self.ledger.account is not None
        return self.ledger.account

    @property
    def sums(self) -> tuple[str, str]:
        """US dollars spent and reserved."""
        spent, reserved = self.account.spent.usd, self.account.reserved.usd
        return f"{spent.normalize():f}", f"{reserved.normalize():f}"

    def claim(
        self, claim_id: str, usd: str | None = "1", *, tokens: int = 10, at: float = 0.0
    ) -> Posting:
        self.offset += 1
        moment = NOON + timedelta(seconds=at)
        return self.ledger.claim(
            claim_id,
            usd=None if usd is None else Decimal(usd),
            tokens=tokens,
            deadline=moment + timedelta(seconds=60),
            at=moment,
            offset=self.offset,
        )

    def settle(
        self,
        claim_id: str,
        usd: str | None = "1",
        *,
        tokens: int = 10,
        at: float = 1.0,
        invocation: str = "i1",
        final: bool = True,
    ) -> Posting:
        self.offset += 1
        return self.ledger.settle(
            claim_id,
            invocation=invocation,
            usd=None if usd is None else Decimal(usd),
            tokens=tokens,
            final=final,
            at=NOON + timedelta(seconds=at),
            offset=self.offset,
        )

    def release(self, claim_id: str, *, at: float = 1.0) -> Posting:
        self.offset += 1
        return self.ledger.release(claim_id, at=NOON + timedelta(seconds=at), offset=self.offset)


def test_a_claim_that_just_fits_is_granted_and_the_next_is_not() -> None:
    """A limit may be reached, not passed."""
    book = Book(usd=2)

    assert [book.claim(each).verdict for each in "abc"] == ["granted", "granted", "denied"]
    assert book.sums == ("0", "2")


def test_a_burst_is_granted_no_more_than_the_limit_before_anything_is_settled() -> None:
    """What is reserved counts as if it were spent."""
    book = Book(usd=5)
    verdicts = [book.claim(f"c{number}", "0.3").verdict for number in range(100)]

    assert verdicts.count("granted") == 16
    assert book.sums == ("0", "4.8")


def test_a_denial_says_what_is_left_until_when() -> None:
    """So that the requester can ask for less, or wait."""
    book = Book(usd=2)
    book.claim("a", "1.75")

    reason = book.claim("b", "0.5").reason
    assert reason == (
        "budget 'b' has 0.25 of 2 US dollars left until 2026-03-02 UTC; the call may cost 0.5"
    )


def test_tokens_are_limited_besides_money() -> None:
    """Each limit alone can refuse."""
    book = Book(usd=100, tokens=25)
    book.claim("a", tokens=20)

    denied = book.claim("b", tokens=6)
    assert denied.verdict == "denied"
    assert denied.reason == (
        "budget 'b' has 5 of 25 tokens left until 2026-03-02 UTC; the call may use 6"
    )


def test_what_has_no_known_price_cannot_draw_on_money() -> None:
    """It can draw on tokens."""
    assert "price is unknown" in (Book(usd=100).claim("a", None).reason or "")
    assert Book(tokens=100).claim("a", None).verdict == "granted"


def test_a_limit_of_nothing_lets_only_free_calls_pass() -> None:
    """Such as those of the operator's own hardware; and it never alerts."""
    book = Book(usd=0)

    assert book.claim("a", "0.000000000000000001").verdict == "denied"
    assert book.claim("b", "0").verdict == "granted"
    assert book.settle("b", "0").alerts == []


def test_a_settlement_takes_the_place_of_its_reservation() -> None:
    """What was reserved too much is free again."""
    book = Book(usd=2)
    book.claim("a", "2")
    book.settle("a", "0.5")

    assert book.sums == ("0.5", "0")
    assert book.claim("b", "1.5").verdict == "granted"


def test_an_unknown_cost_counts_as_what_was_reserved() -> None:
    """Never as nothing; its tokens are known."""
    book = Book(usd=2)
    book.claim("a", "1.5", tokens=10)
    book.settle("a", None, tokens=7)

    assert book.account.spent == Amounts(Decimal("1.5"), 7)
    assert book.sums == ("1.5", "0")


def test_a_second_invocation_is_counted_besides() -> None:
    """A call that was read again after a crash is paid again."""
    book = Book(usd=5)
    book.claim("a", "2")
    book.settle("a", "1", invocation="i1")
    book.settle("a", "1.5", invocation="i2")

    assert book.sums == ("2.5", "0")


def test_a_settlement_that_comes_twice_counts_once() -> None:
    """It is known by its invocation."""
    book = Book(usd=5)
    book.claim("a", "2")
    book.settle("a", "1")
    book.settle("a", "1")

    assert book.sums == ("1", "0")


def test_a_call_that_was_broken_off_keeps_its_reservation_for_the_next_invocation() -> None:
    """What it has cost so far counts at once."""
    book = Book(usd=5)
    book.claim("a", "2")
    book.settle("a", "0.5", invocation="i1", final=False)
    assert book.sums == ("0.5", "2")

    book.settle("a", "1", invocation="i2")
    assert book.sums == ("1.5", "0")


def test_what_was_never_claimed_is_counted_when_it_is_settled() -> None:
    """The money is gone, whoever granted it."""
    book = Book(usd=5)
    book.settle("x", "6")

    assert book.sums == ("6", "0")
    assert book.claim("a", "0").verdict == "denied"


def test_a_claim_that_comes_again_is_sent_on_without_another_reservation() -> None:
    """While it is reserved and after it is settled, even if nothing is left."""
    book = Book(usd=2)
    book.claim("a", "2")
    assert book.claim("a", "2").verdict == "known"
    book.settle("a", "2")

    assert book.claim("a", "2").verdict == "known"
    assert book.sums == ("2", "0")


def test_a_release_frees_what_was_reserved_and_the_claim_may_come_again() -> None:
    """A second release changes nothing."""
    book = Book(usd=2)
    book.claim("a", "2")
    book.release("a")
    book.release("a")
    assert book.sums == ("0", "0")

    assert book.claim("a", "2").verdict == "granted"
    assert book.sums == ("0", "2")


def test_a_call_that_is_lost_counts_as_spent_after_its_deadline_and_the_grace() -> None:
    """At its estimate, as nobody will ever say more."""
    book = Book(usd=5)
    book.claim("a", "2", at=0)
    book.claim("b", "1", at=60 + GRACE - 1)
    assert book.sums == ("0", "3")

    book.claim("c", "1", at=60 + GRACE)
    assert book.sums == ("2", "2")


def test_a_settlement_that_comes_later_still_corrects_the_estimate() -> None:
    """Within the window: a call that waited past its deadline was never made."""
    book = Book(usd=5)
    book.claim("a", "2")
    book.claim("b", "0", at=1000)
    assert book.sums == ("2", "0")

    book.settle("a", "0", at=2000)
    assert book.sums == ("0", "0")


def test_a_new_day_begins_with_what_is_under_way() -> None:
    """Only what was spent is forgotten; a call counts in the window in which it is settled."""
    book = Book(usd=5)
    book.claim("a", "2", at=0)
    book.settle("a", "2")
    book.claim("b", "3", at=12 * 3600 - 1)
    assert book.claim("c", "1", at=12 * 3600 - 1).verdict == "denied"

    assert book.claim("d", "2", at=12 * 3600).verdict == "granted"
    assert book.account.window == date(2026, 3, 2)
    assert book.sums == ("0", "5")
    book.settle("b", "1", at=12 * 3600 + 1)
    assert book.sums == ("1", "2")


def test_what_was_lost_on_an_old_day_does_not_burden_a_new_one() -> None:
    """Even if no record came in between."""
    book = Book(usd=5)
    book.claim("a", "5", at=0)

    assert book.claim("b", "5", at=24 * 3600).verdict == "granted"
    assert book.sums == ("0", "5")
    assert set(book.ledger.holds) == {"b"}


def test_a_late_clock_does_not_bring_an_old_day_back() -> None:
    """Writers' clocks differ a little around midnight."""
    book = Book(usd=5)
    book.claim("a", "3", at=12 * 3600)
    book.claim("b", "1", at=12 * 3600 - 5)

    assert book.account.window == date(2026, 3, 2)
    assert book.sums == ("0", "4")


def test_what_has_ended_is_forgotten_after_the_grace() -> None:
    """So that what is kept is bounded by what is under way."""
    book = Book(usd=5)
    book.claim("a")
    book.settle("a", at=1)
    book.claim("b", "0", at=GRACE)
    assert set(book.ledger.holds) == {"a", "b"}

    posting = book.claim("c", "0", at=GRACE + 1)
    assert posting.holds["a"] is None
    assert set(book.ledger.holds) == {"b", "c"}


def test_each_share_is_announced_once_in_a_window() -> None:
    """Several at once where one call reaches several; again in the next window."""
    book = Book(usd=10, alerts=(0.8, 0.5, 1))
    book.settle("a", "4.99")
    reached = [
        [str(alert.share) for alert in book.settle(f"c{number}", usd, at=at).alerts]
        for number, (usd, at) in enumerate(
            [("0.01", 1), ("0.1", 1), ("6", 1), ("9", 1), ("5", 12 * 3600)]
        )
    ]

    assert reached == [["0.5"], [], ["0.8", "1"], [], ["0.5"]]


def test_what_is_only_reserved_alerts_nobody() -> None:
    """Reservations are upper bounds; most of them come back."""
    book = Book(usd=1)

    assert book.claim("a", "1").alerts == []
    assert len(book.settle("a", "1").alerts) == 3


def test_tokens_alert_as_money_does() -> None:
    """Whichever limit reaches the share first."""
    book = Book(usd=100, tokens=10, alerts=(0.5,))

    (alert,) = book.settle("a", "1", tokens=5).alerts
    assert alert.account.spent.tokens == 5


def test_a_record_that_is_read_again_changes_nothing() -> None:
    """It is kept again, and nothing follows from it a second time."""
    book = Book(usd=5)
    book.claim("a", "2")
    book.claim("b", "2")
    before = book.account
    book.offset = -1
    first, second = book.claim("a", "2"), book.claim("b", "2")

    assert (first.verdict, second.verdict) == (None, None)
    assert (set(first.holds), first.account) == ({"a"}, None)
    assert (set(second.holds), second.account) == ({"b"}, before)


@pytest.mark.parametrize(
    ("moment", "window", "start", "end"),
    [
        ("2026-02-28T23:59:59+00:00", "day", "2026-02-28", "2026-03-01"),
        ("2026-03-01T00:30:00+02:00", "day", "2026-02-28", "2026-03-01"),
        ("2026-03-01T00:30:00+02:00", "month", "2026-02-01", "2026-03-01"),
        ("2024-12-31T12:00:00+00:00", "month", "2024-12-01", "2025-01-01"),
        ("2024-01-31T12:00:00+00:00", "month", "2024-01-01", "2024-02-01"),
    ],
)
def test_windows_are_days_and_months_in_utc(moment: str, window: Any, start: str, end: str) -> None:
    """Whatever time zone a moment is written in."""
    first = window_start(datetime.fromisoformat(moment), window)

    assert first.isoformat() == start
    assert window_end(first, window).isoformat() == f"{end}T00:00:00+00:00"


def test_amounts_beyond_measure_are_counted_as_the_most_that_adds_up() -> None:
    """A request may ask for any number of tokens, a provider report any cost."""
    assert Amounts.of(Decimal("1e40"), 10**40) == Amounts(Decimal("1e15"), 10**12)
    assert Amounts.of(Decimal("1e-500"), 0) == Amounts(Decimal("1e-12"), 0)
