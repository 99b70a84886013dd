"""What a budget has granted and spent: a deterministic state machine over the records about it.

Given the same records in the same order it decides the same; the time it goes by is the time
stamp of each record. A call counts with the most it may cost from its grant to its settlement,
and with what it did cost from then on, in the window in which it was settled. So a window begins
with what the calls under way may still cost.

What a record changes is written as several values that a crash may part: first the holds, then
the account, then the deletions. Each hold says at which offset it was granted and ended, and
whatever lies after the account's own offset is void: the record is read again and does it anew.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from millrace.agents.budget_account import Account, Amounts, Hold, window_end, window_start
from millrace.agents.budget_policy import Budget

Verdict = Literal["granted", "known", "denied"]
"""`known`: the call was granted before, and is sent on without another reservation."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A share that has been reached, with the sums by which it was."""

    share: Decimal
    account: Account


@dataclass(slots=True, kw_only=True)
class Posting:
    """What follows from a record."""

    verdict: Verdict | None = None
    """About a claim; None for other records, and for one that was read before."""
    reason: str | None = None
    """Why a claim was denied, for the requester."""
    account: Account | None = None
    """To be kept; None when it is not this record's to keep."""
    holds: dict[str, Hold | None] = field(default_factory=dict)
    """By claim: to be kept before the account, or, where None, deleted after it."""
    alerts: list[Alert] = field(default_factory=list)


class BudgetLedger:
    """Grants, settles and releases calls of one budget.

    A claim is granted if and only if what is spent, what is reserved and its own amounts together
    keep within every limit. So the limits are exceeded by no more than what calls cost beyond
    their estimates, or were made without a reservation (again, after a crash).

    Calls lost in a crash are never settled: `grace_seconds` after its deadline a call counts as
    spent, at its estimate. A settlement that comes later within the window corrects that.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        grace_seconds: float,
        account: Account | None = None,
        holds: Mapping[str, Hold] | None = None,
    ) -> None:
        self.budget = budget
        self.account = account
        self._grace_seconds = grace_seconds
        applied = -1 if account is None else account.applied
        past = {claim_id: hold.as_of(applied) for claim_id, hold in (holds or {}).items()}
        self._holds = {claim_id: hold for claim_id, hold in past.items() if hold is not None}
        self._due = [(hold.until, claim_id) for claim_id, hold in self._holds.items()]
        heapq.heapify(self._due)

    @property
    def holds(self) -> Mapping[str, Hold]:
        """What is known of each claim that is not forgotten."""
        return self._holds

    def claim(
        self,
        claim_id: str,
        *,
        usd: Decimal | None,
        tokens: int,
        deadline: datetime,
        at: datetime,
        offset: int,
    ) -> Posting:
        """Reserve what a call may cost, if there is room."""
        if self._applied(offset):
            return self._repeat(offset)
        account, posting = self._advance(at, offset)
        before = self._holds.get(claim_id)
        if before is not None and not before.released:
            posting.verdict = "known"
            return self._close(account, posting, offset)
        amounts = Amounts.of(usd, tokens)
        posting.reason = self._shortage(account, amounts, priced=usd is not None)
        if posting.reason is not None:
            posting.verdict = "denied"
            return self._close(account, posting, offset)
        due = deadline.timestamp() + self._grace_seconds
        self._set(claim_id, Hold(amounts=amounts, due=due, granted=offset), posting)
        heapq.heappush(self._due, (due, claim_id))
        posting.verdict = "granted"
        account = replace(account, reserved=account.reserved + amounts)
        return self._close(account, posting, offset)

    def settle(
        self,
        claim_id: str,
        *,
        invocation: str,
        usd: Decimal | None,
        tokens: int,
        final: bool,
        at: datetime,
        offset: int,
    ) -> Posting:
        """Count what an invocation cost, in place of what was reserved for it.

        An unknown cost counts as what was reserved. Another invocation of a call that is
        settled already, or that nothing was reserved for, is counted besides.
        """
        if self._applied(offset):
            return self._repeat(offset)
        account, posting = self._advance(at, offset)
        hold = self._holds.get(claim_id)
        if hold is not None and hold.invocation == invocation:
            return self._close(account, posting, offset)
        unknown = hold.amounts.usd if hold is not None else None
        spent = account.spent + Amounts.of(unknown if usd is None else usd, tokens)
        reserved = account.reserved
        if hold is not None and hold.ended is None and final:
            ended = replace(hold, ended=offset, invocation=invocation)
            if hold.open:
                reserved -= hold.amounts
                ended = self._keep(claim_id, ended, at)
            elif hold.kept_until == self._end(account):
                spent -= hold.amounts
            self._set(claim_id, ended, posting)
        account = self._alert(replace(account, spent=spent, reserved=reserved), posting)
        return self._close(account, posting, offset)

    def release(self, claim_id: str, *, at: datetime, offset: int) -> Posting:
        """Give back what was reserved for a call that is not made."""
        if self._applied(offset):
            return self._repeat(offset)
        account, posting = self._advance(at, offset)
        hold = self._holds.get(claim_id)
        if hold is not None and hold.open:
            account = replace(account, reserved=account.reserved - hold.amounts)
            ended = replace(hold, ended=offset, released=True)
            self._set(claim_id, self._keep(claim_id, ended, at), posting)
        return self._close(account, posting, offset)

    def _applied(self, offset: int) -> bool:
        return self.account is not None and offset <= self.account.applied

    def _repeat(self, offset: int) -> Posting:
        """Keep again what a record led to that is read again.

        What it led to has been sent, but may not be stored: the account goes last, so that it
        never vouches for a hold that is not.
        """
        changed = {
            claim_id: hold
            for claim_id, hold in self._holds.items()
            if offset in (hold.granted, hold.lapsed, hold.ended)
        }
        account = self.account
        last = account is not None and offset == account.applied
        return Posting(account=account if last else None, holds={**changed})

    def _advance(self, at: datetime, offset: int) -> tuple[Account, Posting]:
        """Let happen, in order, what has become due before a record."""
        posting = Posting()
        account = self.account or Account(window=window_start(at, self.budget.window))
        now = at.timestamp()
        while self._due and self._due[0][0] <= now:
            due, claim_id = heapq.heappop(self._due)
            hold = self._holds.get(claim_id)
            if hold is None or hold.until != due:
                continue
            account = self._roll(account, datetime.fromtimestamp(due, UTC))
            if not hold.open:
                del self._holds[claim_id]
                posting.holds[claim_id] = None
                continue
            end = self._end(account)
            self._set(claim_id, replace(hold, lapsed=offset, kept_until=end), posting)
            heapq.heappush(self._due, (end, claim_id))
            spent, reserved = account.spent + hold.amounts, account.reserved - hold.amounts
            account = self._alert(replace(account, spent=spent, reserved=reserved), posting)
        return self._roll(account, at), posting

    def _roll(self, account: Account, at: datetime) -> Account:
        """Begin a new window; never go back to an old one, whatever the clocks of writers say."""
        window = window_start(at, self.budget.window)
        if window <= account.window:
            return account
        return replace(account, window=window, spent=Amounts(), alerted=Decimal(0))

    def _shortage(self, account: Account, amounts: Amounts, *, priced: bool) -> str | None:
        """Why a call cannot be granted; None when it can."""
        budget = self.budget
        taken = account.spent + account.reserved
        until = window_end(account.window, budget.window)
        of_what = f"budget {budget.name!r} has"
        if budget.usd is not None:
            if not priced:
                return (
                    f"the call's price is unknown, so it cannot count against budget "
                    f"{budget.name!r}: set the model's price"
                )
            if (taken + amounts).usd > budget.usd:
                left = max(Decimal(0), (Amounts(budget.usd) - taken).usd)
                return (
                    f"{of_what} {left.normalize():f} of {budget.usd:f} US dollars left until "
                    f"{until:%Y-%m-%d} UTC; the call may cost {amounts.usd.normalize():f}"
                )
        if budget.tokens is not None and (taken + amounts).tokens > budget.tokens:
            left_tokens = max(0, budget.tokens - taken.tokens)
            return (
                f"{of_what} {left_tokens} of {budget.tokens} tokens left until "
                f"{until:%Y-%m-%d} UTC; the call may use {amounts.tokens}"
            )
        return None

    def _alert(self, account: Account, posting: Posting) -> Account:
        """Announce the shares that have now been spent."""
        for share in self.budget.alerts:
            if share > account.alerted and self._has_spent(account.spent, share):
                account = replace(account, alerted=share)
                posting.alerts.append(Alert(share, account))
        return account

    def _has_spent(self, spent: Amounts, share: Decimal) -> bool:
        usd, tokens = self.budget.usd, self.budget.tokens
        return bool(usd and spent.usd >= share * usd) or bool(
            tokens and spent.tokens >= share * tokens
        )

    def _end(self, account: Account) -> float:
        return window_end(account.window, self.budget.window).timestamp()

    def _keep(self, claim_id: str, ended: Hold, at: datetime) -> Hold:
        """Remember an ended hold for a while: its claim, or its settlement, may come again."""
        until = min(ended.due, at.timestamp() + self._grace_seconds)
        heapq.heappush(self._due, (until, claim_id))
        return replace(ended, kept_until=until)

    def _set(self, claim_id: str, hold: Hold, posting: Posting) -> None:
        self._holds[claim_id] = hold
        posting.holds[claim_id] = hold

    def _close(self, account: Account, posting: Posting, offset: int) -> Posting:
        self.account = posting.account = replace(account, applied=offset)
        return posting
