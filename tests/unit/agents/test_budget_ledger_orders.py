"""Whatever the order, the repetitions and the crashes, a budget's sums are right."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.agents.budget_account import Account, Hold
from millrace.agents.budget_ledger import BudgetLedger, Posting
from millrace.agents.budget_policy import Budget

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LIMIT = Decimal(3)
TOKENS = 1_000
BUDGET = Budget(name="b", usd=LIMIT, tokens=TOKENS)
SECONDS = 20.0
"""From a claim to its deadline; the grace is as long."""

PICOS = st.integers(0, 2 * 10**12) | st.builds(
    lambda dollars, more: dollars * 10**12 + more, st.integers(0, 3), st.integers(0, 1)
)
"""Anything, or what makes sums lie just at the limit and just beyond."""
MONEY = PICOS.map(lambda picos: Decimal(picos).scaleb(-12))


@dataclass(frozen=True)
class Event:
    """A record about the budget."""

    kind: str
    claim_id: str
    usd: Decimal | None
    tokens: int
    seconds: float
    invocation: str
    final: bool = True

    def apply(self, ledger: BudgetLedger, offset: int) -> Posting:
        at = NOON + timedelta(seconds=self.seconds)
        if self.kind == "claim":
            deadline = at + timedelta(seconds=SECONDS)
            return ledger.claim(
                self.claim_id,
                usd=self.usd,
                tokens=self.tokens,
                deadline=deadline,
                at=at,
                offset=offset,
            )
        if self.kind == "release":
            return ledger.release(self.claim_id, at=at, offset=offset)
        return ledger.settle(
            self.claim_id,
            invocation=self.invocation,
            usd=self.usd,
            tokens=self.tokens,
            final=self.final,
            at=at,
            offset=offset,
        )


@st.composite
def histories(draw: st.DrawFn, step: float = 8.0) -> list[Event]:
    """Claims, some of them again; settlements, some late, again or of nothing; releases."""
    seconds = 0.0
    events: list[Event] = []
    for number in range(draw(st.integers(1, 25))):
        seconds += draw(st.floats(0, step))
        events.append(
            Event(
                kind=draw(st.sampled_from(["claim", "claim", "claim", "settle", "release"])),
                claim_id=f"c{draw(st.integers(0, 6))}",
                usd=draw(st.one_of(MONEY, st.none())),
                tokens=draw(st.integers(0, 200)),
                seconds=seconds,
                invocation=f"i{draw(st.integers(0, 2)) or number}",
                final=draw(st.integers(0, 3)) > 0,
            )
        )
    return events


def new_ledger(account: Account | None = None, holds: Any = None) -> BudgetLedger:
    """A ledger from what is stored."""
    return BudgetLedger(BUDGET, grace_seconds=SECONDS, account=account, holds=holds)


@dataclass
class Tally:
    """The same sums, kept in the simplest way: all that happened in the one window."""

    taken: dict[str, tuple[Decimal, int]] = field(default_factory=dict)
    """Of each claim that has not been settled or released, lost or not."""
    usd: Decimal = Decimal(0)
    tokens: int = 0

    def committed(self) -> tuple[Decimal, int]:
        usd = sum((each[0] for each in self.taken.values()), start=self.usd)
        return usd, self.tokens + sum(each[1] for each in self.taken.values())


@given(histories())
@settings(max_examples=150, deadline=None)
def test_a_claim_is_granted_if_and_only_if_it_fits(events: list[Event]) -> None:
    """And what is taken is, to the last digit, what claims hold and settlements cost."""
    ledger, tally = new_ledger(), Tally()
    excess = Decimal(0)
    for offset, event in enumerate(events):
        hold_before = ledger.holds.get(event.claim_id)
        posting = event.apply(ledger, offset)
        hold = hold_before if event.claim_id in ledger.holds else None
        live = tally.taken.get(event.claim_id)
        if event.kind == "claim" and posting.verdict != "known":
            usd, tokens = tally.committed()
            fits = (
                event.usd is not None
                and usd + event.usd <= LIMIT
                and tokens + event.tokens <= TOKENS
            )
            assert posting.verdict == ("granted" if fits else "denied")
            if fits and event.usd is not None:
                tally.taken[event.claim_id] = (event.usd, event.tokens)
        elif event.kind == "release" and live and hold and hold.lapsed is None:
            if ledger.holds[event.claim_id].released:
                del tally.taken[event.claim_id]
        elif event.kind == "settle" and not (hold and hold.invocation == event.invocation):
            estimate = hold.amounts.usd if hold else Decimal(0)
            cost = estimate if event.usd is None else event.usd
            tally.usd += cost
            tally.tokens += event.tokens
            if live and event.final:
                del tally.taken[event.claim_id]
                excess += max(Decimal(0), cost - live[0])
            else:
                excess += cost
        assert ledger.account is not None
        taken = ledger.account.spent + ledger.account.reserved
        assert (taken.usd, taken.tokens) == tally.committed()
        assert taken.usd <= LIMIT + excess


@given(histories(step=7200.0))
@settings(max_examples=100, deadline=None)
def test_what_is_reserved_is_the_sum_of_the_open_holds(events: list[Event]) -> None:
    """Over several days, and nothing is ever below zero."""
    ledger = new_ledger()
    for offset, event in enumerate(events):
        event.apply(ledger, offset)
        account = ledger.account
        assert account is not None
        holds = [hold.amounts for hold in ledger.holds.values() if hold.open]
        assert account.reserved.usd == sum((each.usd for each in holds), start=Decimal(0))
        assert account.reserved.tokens == sum(each.tokens for each in holds)
        assert account.spent.usd >= 0
        assert account.spent.tokens >= 0


Write = tuple[str, Any]


def writes_of(posting: Posting) -> list[Write]:
    """What a record writes, in the order in which it is written."""
    kept: list[Write] = [(key, hold) for key, hold in posting.holds.items() if hold is not None]
    if posting.account is not None:
        kept.append(("", posting.account))
    return [*kept, *((key, None) for key, hold in posting.holds.items() if hold is None)]


@given(histories(step=3600.0), st.data())
@settings(max_examples=200, deadline=None)
def test_a_crash_between_any_two_writes_changes_no_decision(
    events: list[Event], data: st.DataObject
) -> None:
    """What is read again is decided as it was, and the sums end up the same."""
    steady = new_ledger()
    expected = [event.apply(steady, offset) for offset, event in enumerate(events)]
    stored: dict[str, Account | Hold] = {}
    ledger, offset = new_ledger(), 0
    crashes = data.draw(st.integers(1, 4))
    while offset < len(events):
        posting = events[offset].apply(ledger, offset)
        # None: it was applied before the crash, and what followed had been sent.
        assert posting.verdict in (None, expected[offset].verdict)
        writes = writes_of(posting)
        crash = crashes > 0 and data.draw(st.booleans())
        done = data.draw(st.integers(0, len(writes))) if crash else len(writes)
        for key, value in writes[:done]:
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
        offset += 1
        if crash:
            crashes -= 1
            account: Any = stored.get("")
            holds = {key: value for key, value in stored.items() if key}
            ledger = new_ledger(account, holds)
            # Offsets are committed some time after the writes.
            last = offset - 1 if done < len(writes) else offset
            offset = data.draw(st.integers(max(0, last - 3), last))

    assert ledger.account == steady.account
    open_holds = {key: hold for key, hold in ledger.holds.items() if hold.open}
    assert open_holds == {key: hold for key, hold in steady.holds.items() if hold.open}
