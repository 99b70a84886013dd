"""One call, from its record to everything that has to be said about it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Protocol

import structlog

from millrace.providers.backoff import GiveUp, RetryHere, Verdict
from millrace.providers.circuit import Ending, Permit, ending
from millrace.providers.protocol import (
    Completion,
    ModelRequest,
    Provider,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    UsageSoFar,
)
from millrace.schemas.call import Call
from millrace.schemas.chunk import ToolCallDelta
from millrace.schemas.errors import BrokerError, ErrorCode, ErrorInfo, PipelineError, ProviderError
from millrace.schemas.ids import NewId
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.usage import Timing, Usage
from millrace.schemas.vocabulary import AttemptStatus, ChunkEnd, CostSource
from millrace.streams.books import Spent, ledger_key, reserved, spent
from millrace.streams.budget_gate import settlements
from millrace.streams.cancellations import Cancellations
from millrace.streams.chunk_stream import ChunkStream
from millrace.streams.dead_letters import Clock
from millrace.streams.publisher import Publisher
from millrace.streams.retrying import Retrying, circuit_open
from millrace.streams.trying_again import again

log = structlog.get_logger(__name__)

_NOTHING_SPENT: frozenset[ErrorCode] = frozenset(
    {
        "rate_limited",
        "authentication_failed",
        "model_not_found",
        "context_length_exceeded",
        "request_refused",
        "provider_unavailable",
    }
)
"""Failures that cost nothing as long as no part of an answer has come."""

_CHUNK_END: dict[AttemptStatus, ChunkEnd] = {
    "failed": "error",
    "expired": "error",
    "cancelled": "cancelled",
}


class CountTokens(Protocol):
    """Estimates tokens where a provider does not say."""

    def request(self, call: Call) -> int:
        """The input tokens of a call."""
        ...

    def text(self, text: str) -> int:
        """The tokens of a text."""
        ...


class Price(Protocol):
    """Prices the usage of one provider entry's models."""

    def __call__(
        self, model: str, usage: Usage, reported: Decimal | None
    ) -> tuple[Decimal | None, CostSource]:
        """The cost in US dollars, None when unknown, and where it comes from."""
        ...


@dataclass(slots=True)
class _Reply:
    """What has come of an answer so far."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_arguments: list[str] = field(default_factory=list)
    deltas: int = 0
    usage: Usage | None = None
    first_token_at: float | None = None
    completion: Completion | None = None
    key_alias: str | None = None
    """The key that was used for a call that failed, where the failure tells."""
    failure: ProviderError | None = None

    @property
    def ending(self) -> Ending:
        """What it tells of the provider; nothing when it was broken off."""
        if self.failure is None and self.completion is None:
            return "unknown"
        return ending(self.failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A call under way."""

    call: Call
    reservation: UsageEvent
    chunks: ChunkStream
    reply: _Reply
    start: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeTopics:
    """Where an exchange writes."""

    chunks: str
    outcomes: str
    usage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Makes calls to one provider entry.

    `run` returns once the broker has acknowledged every record that the call gave rise to: its
    chunks, one outcome, and the ledger events; only then may the call's offset be committed.
    The ledger's `reserved` event is acknowledged before the provider hears of the call, so
    that no crash leaves a paid call out of the books.

    A failure after which the same model is worth another try is no outcome: the call goes on as
    its next attempt, here after a short wait or by way of the retries topic after a long one.
    """

    provider: Provider
    price: Price
    count_tokens: CountTokens
    publisher: Publisher
    patient: Publisher
    """For what nobody waits for."""
    topics: ExchangeTopics
    retrying: Retrying
    cancellations: Cancellations
    flush_seconds: float
    clock: Clock
    new_id: NewId
    on_spent: Callable[[UsageEvent], None] = lambda _: None

    async def run(self, call: Call, *, answered: Callable[[], object] = lambda: None) -> bool:
        """Make the call and say how it ended; `answered` is called when the provider is done.

        Returns whether this attempt is over; False if it was put off as it is, because its
        model must not be asked now.

        When the task is cancelled (shutdown, or the partition went to another process), the
        broken-off call is booked as an estimate, no outcome is written, and whoever reads the
        call next makes it again.

        Raises:
            BrokerError: A record cannot be written; the call must stay uncommitted.
        """
        current = call
        while isinstance(next_try := await self._attempt(current, answered), Call):
            current = next_try
        return next_try == "over" or current is not call

    async def _attempt(
        self, call: Call, answered: Callable[[], object]
    ) -> Call | Literal["over", "put_off"]:
        """Make one attempt; returns the one to be made after it, if that is to be made here."""
        job = call.job
        now = self.clock()
        if self.cancellations.covers(job.request_id, call.member):
            await self._end_unstarted(call, "cancelled", _cancelled(), now)
        elif now >= job.deadline:
            await self._end_unstarted(call, "expired", _expired(), now)
        elif (permit := self.retrying.circuit(call).begin()) is None:
            return await self._turn_away(call, now)
        else:
            return await self._invoke(call, now, answered, permit) or "over"
        return "over"

    async def _turn_away(self, call: Call, now: datetime) -> Literal["over", "put_off"]:
        """Leave the call to another candidate, or to a later time, without making it."""
        error = circuit_open(call)
        wait = self.retrying.closed_for(call)
        if wait is not None:
            waiting = await self.retrying.put_off(call, error, wait)
            if waiting is not None:
                await waiting
                return "put_off"
        await self._end_unstarted(call, "failed", error, now)
        return "over"

    async def _end_unstarted(
        self, call: Call, status: AttemptStatus, error: ErrorInfo, now: datetime
    ) -> None:
        invocation = self.new_id()
        chunks = self._chunk_stream(call, invocation)
        outcome = AttemptOutcome(
            call=call,
            invocation=invocation,
            status=status,
            error=error,
            timing=Timing(queued_ms=_ms(now - call.job.accepted_at)),
            finished_at=now,
        )
        await chunks.close(_chunk_end(call, outcome))
        settled = await self._settle(call, invocation, cost_usd=Decimal(0), usage=Usage())
        await self._publish_outcome(outcome, chunks, settled=settled)

    async def _invoke(
        self, call: Call, started_at: datetime, answered: Callable[[], object], permit: Permit
    ) -> Call | None:
        invocation = self.new_id()
        estimate = Usage(input_tokens=self.count_tokens.request(call), source="estimated")
        reservation = self._reservation(call, invocation, estimate, started_at)
        reply = _Reply()
        with self._telling(call, permit, reply):
            await (await self._send_ledger(call, reservation, self.publisher))
            begun = _Begun(
                call=call,
                reservation=reservation,
                chunks=self._chunk_stream(call, invocation),
                reply=reply,
                start=time.perf_counter(),
            )
            try:
                status, error = await self._converse(call, begun.reply, begun.chunks)
            except asyncio.CancelledError:
                error = ErrorInfo(
                    code="interrupted", message="the call was broken off; it is repeated"
                )
                result = self._spent(begun, "cancelled", error)
                await _finish_despite_cancellation(self._book(begun, result))
                raise
        result = self._spent(begun, status, error)
        verdict = self._verdict(begun)
        if isinstance(verdict, RetryHere) and error is not None:
            await self._book(begun, result)
            await self.retrying.pause(call, verdict.seconds)
            return again(call, result, error)
        answered()
        if isinstance(verdict, GiveUp) or error is None:
            await self._conclude(begun, result, error)
        else:
            await self._put_off(begun, result, error, verdict.seconds)
        return None

    @contextmanager
    def _telling(self, call: Call, permit: Permit, reply: _Reply) -> Iterator[None]:
        """Tell the model's circuit how the call ended, however it ends."""
        try:
            yield
        finally:
            self.retrying.circuit(call).end(permit, reply.ending)

    def _verdict(self, begun: _Begun) -> Verdict:
        failure = begun.reply.failure
        if failure is None:
            return GiveUp("not_retryable")
        return self.retrying.verdict(begun.call, failure, begun=begun.reply.deltas > 0)

    async def _put_off(
        self, begun: _Begun, result: Spent, error: ErrorInfo, seconds: float
    ) -> None:
        """Send the next attempt to wait for its time."""
        call = again(begun.call, result, error)
        waiting = await self.retrying.put_off(call, error, seconds)
        if waiting is None:
            await self._conclude(begun, result, error)
        else:
            await asyncio.gather(waiting, self._book(begun, result))

    async def _converse(
        self, call: Call, reply: _Reply, chunks: ChunkStream
    ) -> tuple[AttemptStatus, ErrorInfo | None]:
        """Ask and read until the answer is whole, or is not going to be."""
        job = call.job
        loop = asyncio.get_running_loop()
        stopped = False
        remaining = (job.deadline - self.clock()).total_seconds()
        try:
            async with asyncio.timeout(remaining) as limit:

                def stop() -> None:
                    nonlocal stopped
                    # Once time is up, or after an earlier cancellation, it is ending already.
                    if not limit.expired():
                        stopped = True
                        limit.reschedule(loop.time())

                with self.cancellations.watching(job.request_id, call.member, stop):
                    await self._read(call, reply, chunks)
        except TimeoutError:
            return ("cancelled", _cancelled()) if stopped else ("expired", _expired())
        except ProviderError as error:
            reply.key_alias = error.key_alias
            log.info(
                "call.failed",
                request_id=job.request_id,
                provider=call.target.provider,
                model=call.target.model,
                attempt=call.attempt,
                code=error.code,
            )
            reply.failure = error
            return "failed", error.info()
        except PipelineError:
            raise
        except Exception as error:
            # A fault of ours must end this attempt, not the calls beside it.
            log.exception("call.fault", request_id=job.request_id, provider=call.target.provider)
            message = f"a fault in Millrace ({type(error).__name__}); please report it"
            return "failed", ErrorInfo(code="internal_error", message=message)
        if reply.completion is None:
            message = "the adapter ended without a completion"
            return "failed", ErrorInfo(code="reply_invalid", message=message, retryable=True)
        return "completed", None

    async def _read(self, call: Call, reply: _Reply, chunks: ChunkStream) -> None:
        job = call.job
        request = ModelRequest(
            model=call.target.model,
            messages=job.messages,
            parameters=job.parameters,
            tools=job.tools,
            output=job.output,
            stream=job.stream,
        )
        async with aclosing(self.provider.ask(request)) as events:
            async for event in events:
                if isinstance(event, Completion):
                    reply.completion = event
                    continue
                if isinstance(event, UsageSoFar):
                    reply.usage = event.usage
                    continue
                if reply.first_token_at is None:
                    reply.first_token_at = time.perf_counter()
                reply.deltas += 1
                match event:
                    case TextDelta(text):
                        reply.text.append(text)
                        await chunks.add(text=text)
                    case ReasoningDelta(text):
                        reply.reasoning.append(text)
                        await chunks.add(reasoning=text)
                    case ToolArgumentsDelta():
                        reply.tool_arguments.append(event.arguments)
                        piece = ToolCallDelta(
                            index=event.index,
                            id=event.id,
                            name=event.name,
                            arguments=event.arguments,
                        )
                        await chunks.add(tool_call=piece)

    def _reservation(
        self, call: Call, invocation: str, estimate: Usage, started_at: datetime
    ) -> UsageEvent:
        cost, source = self.price(call.target.model, estimate, None)
        return reserved(
            call,
            invocation=invocation,
            usage=estimate,
            cost_usd=cost,
            cost_source=source,
            started_at=started_at,
        )

    def _spent(self, begun: _Begun, status: AttemptStatus, error: ErrorInfo | None) -> Spent:
        call, reply, start = begun.call, begun.reply, begun.start
        completion = reply.completion if status == "completed" else None
        usage = completion.usage if completion else None
        reported = completion.reported_cost_usd if completion else None
        if usage is None:
            usage = self._estimated(reply, error, begun.reservation.usage)
        cost, source = self.price(call.target.model, usage, reported)
        first = reply.first_token_at
        return Spent(
            status=status,
            usage=usage,
            cost_usd=cost,
            cost_source=source,
            timing=Timing(
                queued_ms=_ms(begun.reservation.started_at - call.job.accepted_at),
                time_to_first_token_ms=None if first is None else round((first - start) * 1e3, 3),
                total_ms=round((time.perf_counter() - start) * 1e3, 3),
            ),
            finished_at=self.clock(),
            finish_reason=completion.finish_reason if completion else None,
            error_code=error.code if error else None,
            key_alias=completion.key_alias if completion else begun.reply.key_alias,
        )

    def _estimated(self, reply: _Reply, error: ErrorInfo | None, estimate: Usage) -> Usage:
        if (
            error is not None
            and error.code in _NOTHING_SPENT
            and not reply.deltas
            and not reply.usage
        ):
            return Usage()
        said = reply.usage or estimate
        visible = "".join((*reply.text, *reply.tool_arguments))
        reasoning = self.count_tokens.text("".join(reply.reasoning))
        output = max(self.count_tokens.text(visible) + reasoning, said.output_tokens)
        return said.model_copy(
            update={"output_tokens": output, "reasoning_tokens": reasoning, "source": "estimated"}
        )

    async def _conclude(self, begun: _Begun, result: Spent, error: ErrorInfo | None) -> None:
        call, chunks, reply = begun.call, begun.chunks, begun.reply
        completion = reply.completion if result.status == "completed" else None
        text = completion.text if completion else "".join(reply.text)
        outcome = AttemptOutcome(
            call=call,
            invocation=begun.reservation.invocation,
            status=result.status,
            text=text,
            reasoning=completion.reasoning if completion else "".join(reply.reasoning),
            tool_calls=completion.tool_calls if completion else (),
            finish_reason=result.finish_reason,
            usage=result.usage,
            cost_usd=result.cost_usd,
            cost_source=result.cost_source,
            timing=result.timing,
            error=error,
            response_id=completion.response_id if completion else None,
            finished_at=result.finished_at,
        )
        await chunks.close(_chunk_end(call, outcome))
        settled = await self._settle(
            call, outcome.invocation, cost_usd=result.cost_usd, usage=result.usage
        )
        event = spent(begun.reservation, result)
        await self._publish_outcome(outcome, chunks, event, settled=settled)

    async def _book(self, begun: _Begun, result: Spent) -> None:
        """Book an invocation without an outcome; the call is made again."""
        event = spent(begun.reservation, result)
        await begun.chunks.close("restarted")
        ledger = await self._send_ledger(begun.call, event, self.patient)
        settled = await self._settle(
            begun.call,
            event.invocation,
            cost_usd=result.cost_usd,
            usage=result.usage,
            final=False,
        )
        await asyncio.gather(*begun.chunks.deliveries, ledger, *settled)
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
                    "error": ErrorInfo(code="too_large", message=error.message),
                }
            )
            return await self.publisher.publish(topic, shorter, key=key, headers=headers)

    def _chunk_stream(self, call: Call, invocation: str) -> ChunkStream:
        return ChunkStream(
            publisher=self.publisher,
            topic=self.topics.chunks,
            call=call,
            invocation=invocation,
            flush_seconds=self.flush_seconds,
        )


def _chunk_end(call: Call, outcome: AttemptOutcome) -> ChunkEnd:
    if outcome.status == "completed":
        return "length" if outcome.finish_reason == "length" else "stop"
    if outcome.status == "failed" and call.next_candidate is not None:
        return "restarted"
    return _CHUNK_END[outcome.status]


def _cancelled() -> ErrorInfo:
    return ErrorInfo(code="cancelled", message="the request was cancelled")


def _expired() -> ErrorInfo:
    return ErrorInfo(code="deadline_exceeded", message="the deadline of the request has passed")


def _ms(delta: timedelta) -> float:
    return max(0.0, round(delta.total_seconds() * 1e3, 3))


async def _finish_despite_cancellation(work: Awaitable[None]) -> None:
    """Let `work` end although the task is being cancelled; a second cancellation stops it."""
    await asyncio.shield(asyncio.ensure_future(work))
