"""The single writer of each budget: reads what is asked of it, grants, refuses, keeps the sums."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from millrace.agents.budget_account import Account, Hold
from millrace.agents.budget_ledger import Alert, BudgetLedger, Posting
from millrace.agents.budget_policy import Budget, BudgetPolicy
from millrace.schemas.budget import BudgetAlert, BudgetClaim, BudgetRelease, BudgetSettlement
from millrace.schemas.call import Call
from millrace.schemas.chunk import Chunk
from millrace.schemas.errors import ErrorCode, ErrorInfo
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.record import SCHEMA_HEADER, Headers
from millrace.schemas.usage import Timing
from millrace.streams.budget_gate import Addressed, to_budget, to_provider
from millrace.streams.budget_states import dump_account, dump_hold, load_account, load_hold
from millrace.streams.dead_letters import RawRecord
from millrace.streams.ordered_acks import StateWrite
from millrace.streams.publisher import Publisher
from millrace.streams.state_table import StateTable
from millrace.streams.stream_app import Outputs
from millrace.streams.topics import TopicNames

log = structlog.get_logger(__name__)

GRACE_SECONDS = 300.0
"""How long after its deadline a call may still be settled before it counts as lost."""

REFUSED: Final[ErrorCode] = "budget_exceeded"
"""The code of the outcome of a call that a budget refused."""

_NO_INVOCATION = "refused"
"""Names no HTTP call, as none was made; the same on redelivery."""


@dataclass(slots=True, kw_only=True)
class BudgetProcessor:
    """Processes `llm.usage`, but for the plain ledger events.

    A claim that is granted goes on to the next budget, or its call to the provider. One that is
    refused becomes a failed outcome of its attempt, so that the join may try another candidate,
    and the budgets that granted it before are told. What names a budget that is configured no
    more is not counted, and a claim passes it.

    States, in one table keyed by partition of the budget's name: its account under the name, each
    hold under `name/claim_id`. No record costs more than its own hold and the account, however
    many calls are under way.
    """

    policy: BudgetPolicy
    publisher: Publisher
    topics: TopicNames
    states: StateTable
    grace_seconds: float = GRACE_SECONDS
    on_alert: Callable[[BudgetAlert], None] = lambda _: None
    on_refusal: Callable[[str], None] = lambda _: None
    """Given the name of the budget that has no room for a call."""
    _ledgers: dict[str, BudgetLedger] = field(default_factory=dict, init=False)

    def restore(self, held: set[int]) -> None:
        """Take the ledgers from the table, after partitions have changed hands."""
        accounts: dict[str, Account] = {}
        holds: defaultdict[str, dict[str, Hold]] = defaultdict(dict)
        for key, partition, _, payload in self.states.items():
            if partition not in held:
                continue
            try:
                name, _, claim_id = key.decode().partition("/")
                if claim_id:
                    holds[name][claim_id] = load_hold(payload)
                else:
                    accounts[name] = load_account(payload)
            except (ValueError, TypeError, ArithmeticError):
                # Nothing of ours; to stop here would stop every budget, at every start again.
                log.warning("state.unreadable", table=self.states.name, key=repr(key))
        self._ledgers.clear()
        for name, account in accounts.items():
            budget = self.policy.named(name)
            if budget is not None:
                self._ledgers[name] = self._ledger(budget, account, holds[name])

    def accounts(self) -> dict[str, Account]:
        """How the budgets stand that this process decides about."""
        return {
            name: ledger.account
            for name, ledger in self._ledgers.items()
            if ledger.account is not None
        }

    async def process(self, source: RawRecord, outputs: Outputs) -> None:
        """Decide about one record.

        Raises:
            InvalidEventError: It is no record of this topic.
        """
        schema = next((value for name, value in source.headers if name == SCHEMA_HEADER), b"")
        value = source.value or b""
        match schema:
            case b"budget-claim":
                await self._claim(BudgetClaim.decode(value, source.headers), source, outputs)
            case b"budget-settlement":
                settlement = BudgetSettlement.decode(value, source.headers)
                await self._settle(settlement, source, outputs)
            case b"budget-release":
                await self._release(BudgetRelease.decode(value, source.headers), source, outputs)

    async def _claim(self, claim: BudgetClaim, source: RawRecord, outputs: Outputs) -> None:
        name = claim.pending[0]
        ledger = self._ledger_of(name)
        if ledger is None:
            await self._send_on(claim, claim.granted, outputs)
            return
        posting = ledger.claim(
            claim.claim_id,
            usd=claim.usd,
            tokens=claim.tokens,
            deadline=claim.call.job.deadline,
            at=source.timestamp,
            offset=source.offset,
        )
        # Noted first, so that a record which cannot be sent leaves the sums as they are stored.
        await self._keep(ledger, posting, source, outputs)
        if posting.verdict == "denied":
            log.info("budget.denied", budget=name, claim=claim.claim_id)
            self.on_refusal(name)
            await self._refuse(claim, posting.reason or "", source, outputs)
        elif posting.verdict is not None:
            await self._send_on(claim, (*claim.granted, name), outputs)

    async def _settle(
        self, settlement: BudgetSettlement, source: RawRecord, outputs: Outputs
    ) -> None:
        ledger = self._ledger_of(settlement.budget)
        if ledger is not None:
            posting = ledger.settle(
                settlement.claim_id,
                invocation=settlement.invocation,
                usd=settlement.usd,
                tokens=settlement.tokens,
                final=settlement.final,
                at=source.timestamp,
                offset=source.offset,
            )
            await self._keep(ledger, posting, source, outputs)

    async def _release(self, release: BudgetRelease, source: RawRecord, outputs: Outputs) -> None:
        ledger = self._ledger_of(release.budget)
        if ledger is not None:
            posting = ledger.release(release.claim_id, at=source.timestamp, offset=source.offset)
            await self._keep(ledger, posting, source, outputs)

    async def _send_on(
        self, claim: BudgetClaim, granted: tuple[str, ...], outputs: Outputs
    ) -> None:
        pending = claim.pending[1:]
        if pending:
            following = claim.model_copy(update={"pending": pending, "granted": granted})
            addressed = to_budget(following, self.topics)
        else:
            call = claim.call.model_copy(update={"budgets": granted})
            addressed = to_provider(call, self.topics)
        await self._publish(addressed, outputs, trace=claim.call.job.trace_headers())

    async def _refuse(
        self, claim: BudgetClaim, reason: str, source: RawRecord, outputs: Outputs
    ) -> None:
        trace = claim.call.job.trace_headers()
        for name in claim.granted:
            release = BudgetRelease(budget=name, claim_id=claim.claim_id)
            await self._publish(Addressed(self.topics.usage, release, name), outputs, trace=trace)
        outcome = _refused(claim.call, reason, source)
        if claim.call.stream:
            end = _last_chunk(claim.call)
            chunk = Addressed(self.topics.chunks, end, end.request_id)
            await self._publish(chunk, outputs, trace=trace)
        decided = Addressed(self.topics.outcomes, outcome, outcome.request_id)
        await self._publish(decided, outputs, trace=trace)

    async def _keep(
        self, ledger: BudgetLedger, posting: Posting, source: RawRecord, outputs: Outputs
    ) -> None:
        name = ledger.budget.name
        # The order matters: an account vouches for the holds that were written before it.
        for claim_id, hold in posting.holds.items():
            if hold is not None:
                self._remember(f"{name}/{claim_id}", dump_hold(hold), source, outputs)
        if posting.account is not None:
            self._remember(name, dump_account(posting.account), source, outputs)
        for claim_id, hold in posting.holds.items():
            if hold is None:
                key = f"{name}/{claim_id}".encode()
                self.states.delete(key)
                outputs.states.append(StateWrite(self.states, key, None))
        for alert in posting.alerts:
            await self._announce(ledger.budget, alert, source, outputs)

    def _remember(self, key: str, payload: Any, source: RawRecord, outputs: Outputs) -> None:
        raw = key.encode()
        stored = self.states.set(
            raw, partition=source.partition, touched=source.timestamp.timestamp(), payload=payload
        )
        outputs.states.append(StateWrite(self.states, raw, stored))

    async def _announce(
        self, budget: Budget, alert: Alert, source: RawRecord, outputs: Outputs
    ) -> None:
        spent = alert.account.spent
        record = BudgetAlert(
            budget=budget.name,
            window=budget.window,
            window_start=alert.account.window,
            share=alert.share,
            spent_usd=spent.usd,
            limit_usd=budget.usd,
            spent_tokens=spent.tokens,
            limit_tokens=budget.tokens,
            at=source.timestamp,
        )
        log.warning(
            "budget.alert",
            budget=budget.name,
            share=str(alert.share),
            window_start=str(record.window_start),
            spent_usd=str(spent.usd),
            spent_tokens=spent.tokens,
        )
        self.on_alert(record)
        await self._publish(Addressed(self.topics.usage, record, budget.name), outputs)

    async def _publish(
        self, addressed: Addressed, outputs: Outputs, *, trace: Headers = ()
    ) -> None:
        topic, record, key = addressed
        outputs.deliveries.append(
            await self.publisher.publish(topic, record, key=key, headers=trace)
        )

    def _ledger_of(self, name: str) -> BudgetLedger | None:
        ledger = self._ledgers.get(name)
        if ledger is None:
            budget = self.policy.named(name)
            if budget is None:
                log.warning("budget.unknown", budget=name)
                return None
            ledger = self._ledgers[name] = self._ledger(budget, None, {})
        return ledger

    def _ledger(
        self, budget: Budget, account: Account | None, holds: dict[str, Hold]
    ) -> BudgetLedger:
        return BudgetLedger(budget, grace_seconds=self.grace_seconds, account=account, holds=holds)


def _refused(call: Call, reason: str, source: RawRecord) -> AttemptOutcome:
    waited = (source.timestamp - call.job.accepted_at).total_seconds()
    return AttemptOutcome(
        call=call,
        invocation=_NO_INVOCATION,
        status="failed",
        error=ErrorInfo(code=REFUSED, message=reason),
        timing=Timing(queued_ms=max(0.0, round(waited * 1e3, 3))),
        finished_at=source.timestamp,
    )


def _last_chunk(call: Call) -> Chunk:
    target = call.target
    return Chunk(
        request_id=call.job.request_id,
        member=call.member,
        attempt=call.attempt,
        invocation=_NO_INVOCATION,
        sequence=0,
        provider=target.provider,
        model=target.model,
        end="error" if call.next_candidate is None else "restarted",
    )
