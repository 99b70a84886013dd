"""Writing what a call gives rise to: chunks, ledger events, settlements, its outcome."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from millrace.schemas.call import Call
from millrace.schemas.errors import BrokerError, ErrorInfo
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import AttemptStatus, ChunkEnd
from millrace.streams.books import Spent, ledger_key, spent
from millrace.streams.budget_gate import settlements
from millrace.streams.chunk_stream import ChunkStream
from millrace.streams.publisher import Publisher

_CHUNK_END: dict[AttemptStatus, ChunkEnd] = {
    "failed": "error",
    "expired": "error",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeTopics:
    """Where an exchange writes."""

    chunks: str
    outcomes: str
    usage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecords:
    """Writes the records of calls; each method returns once the broker has acknowledged all.

    Raises:
        BrokerError: A record cannot be written; the call must stay uncommitted.
    """

    publisher: Publisher
    patient: Publisher
    """For what nobody waits for."""
    topics: ExchangeTopics
    flush_seconds: float
    on_spent: Callable[[UsageEvent], None] = lambda _: None

    def chunk_stream(self, call: Call, invocation: str) -> ChunkStream:
        """The chunks of an invocation."""
        return ChunkStream(
            publisher=self.publisher,
            topic=self.topics.chunks,
            call=call,
            invocation=invocation,
            flush_seconds=self.flush_seconds,
        )

    async def reserve(self, call: Call, reservation: UsageEvent) -> None:
        """Have it in the books before the provider hears of the call."""
        await (await self._send_ledger(call, reservation, self.publisher))

    async def end_unstarted(self, outcome: AttemptOutcome, chunks: ChunkStream) -> None:
        """End an attempt that was not made and cost nothing."""
        call = outcome.call
        await chunks.close(_chunk_end(call, outcome))
        settled = await self._settle(call, outcome.invocation, cost_usd=Decimal(0), usage=Usage())
        await self._publish_outcome(outcome, chunks, settled=settled)

    async def end(
        self, outcome: AttemptOutcome, chunks: ChunkStream, reservation: UsageEvent, result: Spent
    ) -> None:
        """End an attempt that was made."""
        call = outcome.call
        await chunks.close(_chunk_end(call, outcome))
        outcome = outcome.model_copy(update={"chunks": chunks.written})
        settled = await self._settle(
            call, outcome.invocation, cost_usd=result.cost_usd, usage=result.usage
        )
        event = spent(reservation, result)
        await self._publish_outcome(outcome, chunks, event, settled=settled)

    async def book(
        self, call: Call, chunks: ChunkStream, reservation: UsageEvent, result: Spent
    ) -> None:
        """Book an invocation without an outcome; the call is made again."""
        event = spent(reservation, result)
        await chunks.close("restarted")
        ledger = await self._send_ledger(call, event, self.patient)
        settled = await self._settle(
            call,
            event.invocation,
            cost_usd=result.cost_usd,
            usage=result.usage,
            final=False,
        )
        await asyncio.gather(*chunks.deliveries, ledger, *settled)
        self.on_spent(event)

    async def _publish_outcome(
        self,
        outcome: AttemptOutcome,
        chunks: ChunkStream,
        event: UsageEvent | None = None,
        *,
        settled: "Sequence[asyncio.Future[Any]]" = (),
    ) -> None:
        deliveries = [*chunks.deliveries, *settled]
        if event is not None:
            deliveries.append(await self._send_ledger(outcome.call, event, self.patient))
        deliveries.append(await self._send_outcome(outcome))
        await asyncio.gather(*deliveries)
        if event is not None:
            self.on_spent(event)

    async def _settle(
        self,
        call: Call,
        invocation: str,
        *,
        cost_usd: Decimal | None,
        usage: Usage,
        final: bool = True,
    ) -> "list[asyncio.Future[Any]]":
        """Tell the budgets that granted the call what it cost."""
        if not call.budgets:
            return []
        told = settlements(
            call.budgets,
            call,
            invocation=invocation,
            usd=cost_usd,
            tokens=usage.input_tokens + usage.output_tokens,
            final=final,
        )
        headers = call.job.trace_headers()
        return [
            await self.patient.publish(self.topics.usage, each, key=each.budget, headers=headers)
            for each in told
        ]

    async def _send_ledger(
        self, call: Call, event: UsageEvent, publisher: Publisher
    ) -> "asyncio.Future[Any]":
        return await publisher.publish(
            self.topics.usage, event, key=ledger_key(call), headers=call.job.trace_headers()
        )

    async def _send_outcome(self, outcome: AttemptOutcome) -> "asyncio.Future[Any]":
        topic, key = self.topics.outcomes, outcome.request_id
        headers = outcome.call.job.trace_headers()
        try:
            return await self.publisher.publish(topic, outcome, key=key, headers=headers)
        except BrokerError as error:
            if error.code != "too_large":
                raise
            # An answer that no topic takes must not stop the calls behind it.
            shorter = outcome.model_copy(
                update={
                    "status": "failed",
                    "text": "",
                    "reasoning": "",
                    "tool_calls": (),
                    "embeddings": (),
                    "refusal": "",
                    "error": ErrorInfo(code="too_large", message=error.message),
                }
            )
            return await self.publisher.publish(topic, shorter, key=key, headers=headers)


def _chunk_end(call: Call, outcome: AttemptOutcome) -> ChunkEnd:
    if outcome.status == "completed":
        return "length" if outcome.finish_reason == "length" else "stop"
    if outcome.status == "failed" and call.next_candidate is not None:
        return "restarted"
    return _CHUNK_END[outcome.status]
