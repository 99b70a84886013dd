"""How accounts and holds lie in the table of states: lists, as names would be most of the bytes."""

from datetime import date
from decimal import Decimal
from typing import Any

from millrace.agents.budget_account import Account, Amounts, Hold


def dump_account(account: Account) -> list[Any]:
    """Write the sums; amounts as text, exact."""
    spent, reserved = account.spent, account.reserved
    return [
        account.window.isoformat(),
        str(spent.usd),
        spent.tokens,
        str(reserved.usd),
        reserved.tokens,
        str(account.alerted),
        account.applied,
    ]


def load_account(payload: list[Any]) -> Account:
    """Read what `dump_account` wrote."""
    window, spent_usd, spent_tokens, reserved_usd, reserved_tokens, alerted, applied = payload
    return Account(
        window=date.fromisoformat(window),
        spent=Amounts(Decimal(spent_usd), spent_tokens),
        reserved=Amounts(Decimal(reserved_usd), reserved_tokens),
        alerted=Decimal(alerted),
        applied=applied,
    )


def dump_hold(hold: Hold) -> list[Any]:
    """Write a hold."""
    return [
        str(hold.amounts.usd),
        hold.amounts.tokens,
        hold.due,
        hold.granted,
        hold.lapsed,
        hold.ended,
        hold.released,
        hold.invocation,
        hold.kept_until,
    ]


def load_hold(payload: list[Any]) -> Hold:
    """Read what `dump_hold` wrote."""
    usd, tokens, due, granted, lapsed, ended, released, invocation, kept = payload
    return Hold(
        amounts=Amounts(Decimal(usd), tokens),
        due=due,
        granted=granted,
        lapsed=lapsed,
        ended=ended,
        released=released,
        invocation=invocation,
        kept_until=kept,
    )
