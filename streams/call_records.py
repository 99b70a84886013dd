"""Writing what a call gives rise to: chunks, ledger events, settlements, its outcome."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from millrace.schemas.call import Call
from millrace.schemas.errors import BrokerError, ErrorInfo
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.usage import Usage
from millrace.schemas.vocabulary import AttemptStatus, ChunkEnd, FinishReason
from millrace.streams.books import Spent, ledger_key, spent
from millrace.streams.budget_gate import settlements
from millrace.streams.chunk_stream import ChunkStream
from millrace.streams.deliveries import Delivery, all_delivered
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
        await self.close(call, chunks, outcome.status, outcome.finish_reason)
        settled = await self._settle(call, outcome.invocation, cost_usd=Decimal(0), usage=Usage())
        await self._publish_outcome(outcome, chunks, settled=settled)

    async def close(
        self,
        call: Call,
        chunks: ChunkStream,
        status: AttemptStatus,
        finish_reason: FinishReason | None,
    ) -> None:
        """Write the last chunk of an attempt that ends so."""
        await chunks.close(_chunk_end(call, status, finish_reason))

    async def end(
        self,
        outcome: AttemptOutcome,
        chunks: ChunkStream,
        reservation: UsageEvent,
        result: Spent,
        *,
        call_json: bytes | None = None,
    ) -> None:
        """End an attempt that was made, and whose chunks have been closed.

        `call_json` is its call as it was read, if it was.
        """
        call = outcome.call
        settled = await self._settle(
            call, outcome.invocation, cost_usd=result.cost_usd, usage=result.usage
        )
        event = spent(reservation, result)
        await self._publish_outcome(outcome, chunks, event, settled=settled, call_json=call_json)

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
        await all_delivered((*chunks.deliveries, ledger, *settled))
        self.on_spent(event)

    async def _publish_outcome(
        self,
        outcome: AttemptOutcome,
        chunks: ChunkStream,
        event: UsageEvent | None = None,
        *,
        settled: Sequence[Delivery] = (),
        call_json: bytes | None = None,
    ) -> None:
        # What was sent patiently first: once that is there, the others need not be waited for.
        deliveries = [*settled]
        if event is not None:
            deliveries.append(await self._send_ledger(outcome.call, event, self.patient))
        deliveries.append(await self._send_outcome(outcome, call_json))
        await all_delivered((*deliveries, *chunks.deliveries))
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
    ) -> list[Delivery]:
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

    async def _send_ledger(self, call: Call, event: UsageEvent, publisher: Publisher) -> Delivery:
        return await publisher.publish(
            self.topics.usage, event, key=ledger_key(call), headers=call.job.trace_headers()
        )

    async def _send_outcome(self, outcome: AttemptOutcome, call_json: bytes | None) -> Delivery:
        topic, key = self.topics.outcomes, outcome.request_id
        headers = outcome.call.job.trace_headers()
        try:
            value = None if call_json is None else outcome.encode_around(call_json)
            return await self.publisher.publish(
                topic, outcome, key=key, headers=headers, value=value
            )
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


def _chunk_end(call: Call, status: AttemptStatus, finish_reason: FinishReason | None) -> ChunkEnd:
    if status == "completed":
        return "length" if finish_reason == "length" else "stop"
    if status == "failed" and call.next_candidate is not None:
        return "restarted"
    return _CHUNK_END[status]
