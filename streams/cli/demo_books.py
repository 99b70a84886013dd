"""Compares the ledger in ClickHouse with the simulator's own, call by call and token by token."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Self

from millrace.providers.simulator.ledger import LedgerLine
from millrace.sinks.settings import ClickHouseSettings
from millrace.streams.cli.clickhouse import ask

_ROWS = 10_000
_LEDGER = (
    "SELECT provider, usage_source = 'reported' AND input_tokens > 0 AS counted, "
    "usage_source = 'estimated' AS estimated, count(), sum(input_tokens), sum(cached_tokens), "
    "sum(output_tokens), toString(sum(cost_usd)), countIf(cost_usd IS NULL) "
    "FROM ledger WHERE status != 'in_flight' GROUP BY provider, counted, estimated"
)
_STORED = (
    "SELECT (SELECT uniqExact(request_id) FROM responses), "
    "(SELECT uniqExact(topic, partition, offset) FROM dead_letters), "
    "(SELECT countIf(status = 'in_flight') FROM ledger), (SELECT count() FROM ledger)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Calls and their tokens."""

    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Self) -> Self:
        """Sum two."""
        return type(self)(
            **{
                each.name: getattr(self, each.name) + getattr(other, each.name)
                for each in fields(self)
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One provider entry's calls."""

    counted: Counts = Counts()
    """With the provider's own counts."""
    estimated: Counts = Counts()
    """Broken off or without counts, which only an estimate can stand for."""
    refused: int = 0
    """Answered with an error before any token."""

    def __add__(self, other: Self) -> Self:
        """Sum two."""
        return type(self)(
            counted=self.counted + other.counted,
            estimated=self.estimated + other.estimated,
            refused=self.refused + other.refused,
        )

    @property
    def calls(self) -> int:
        """All of them."""
        return self.counted.calls + self.estimated.calls + self.refused


Accounts = Mapping[str, Account]
"""By the name of the provider entry, which is that of the simulator's instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """The ledger as it stands in ClickHouse."""

    accounts: Accounts
    cost_usd: Decimal
    """Of the calls whose cost is known."""
    unknown_cost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """How much has reached ClickHouse."""

    responses: int
    dead_letters: int
    in_flight: int
    """Calls that are reserved and not spent."""
    calls: int


async def read_stored(clickhouse: ClickHouseSettings) -> Stored:
    """Ask how much is there."""
    answer = await ask(clickhouse, _STORED, limit=1)
    responses, dead_letters, in_flight, calls = map(int, answer.rows[0])
    return Stored(responses=responses, dead_letters=dead_letters, in_flight=in_flight, calls=calls)


async def read_books(clickhouse: ClickHouseSettings) -> Books:
    """Read the ledger's sums."""
    answer = await ask(clickhouse, _LEDGER, limit=_ROWS)
    accounts: dict[str, Account] = {}
    cost = Decimal(0)
    unknown = 0
    for provider, counted, estimated, calls, given, cached, made, usd, without in answer.rows:
        counts = Counts(
            calls=int(calls),
            input_tokens=int(given),
            cached_tokens=int(cached),
            output_tokens=int(made),
        )
        if counted:
            account = Account(counted=counts)
        elif estimated:
            account = Account(estimated=counts)
        else:
            account = Account(refused=counts.calls)
        accounts[provider] = accounts.get(provider, Account()) + account
        cost += Decimal(usd or 0)
        unknown += int(without)
    return Books(accounts=accounts, cost_usd=cost, unknown_cost=unknown)


def simulator_accounts(lines: Iterable[LedgerLine]) -> Accounts:
    """The same sums from the simulator's side."""
    accounts: dict[str, Account] = {}
    for line in lines:
        accounts[line.instance] = accounts.get(line.instance, Account()) + _account(line)
    return accounts


def _account(line: LedgerLine) -> Account:
    counts = Counts(
        calls=1,
        input_tokens=line.input_tokens,
        cached_tokens=line.cached_tokens,
        output_tokens=line.generated_tokens,
    )
    if line.ended == "complete" and line.usage_reported:
        return Account(counted=counts)
    if line.ended == "error" and not line.input_tokens:
        return Account(refused=1)
    return Account(estimated=counts)


def total(accounts: Accounts) -> Account:
    """The sum over all entries."""
    return sum(accounts.values(), start=Account())


def disagreements(ours: Accounts, theirs: Accounts) -> Iterator[str]:
    """Say where the two differ; of estimates only the number of calls can agree."""
    for name in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(name, Account()), theirs.get(name, Account())
        pairs: dict[str, tuple[Any, Any]] = {
            "counted calls": (mine.counted.calls, other.counted.calls),
            "input tokens": (mine.counted.input_tokens, other.counted.input_tokens),
            "cached tokens": (mine.counted.cached_tokens, other.counted.cached_tokens),
            "output tokens": (mine.counted.output_tokens, other.counted.output_tokens),
            "estimated calls": (mine.estimated.calls, other.estimated.calls),
            "refused calls": (mine.refused, other.refused),
        }
        for what, (booked, made) in pairs.items():
            if booked != made:
                yield f"the books of {name} say {booked} {what}, the simulator {made}"
