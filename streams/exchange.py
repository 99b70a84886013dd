"""One call, from its record to everything that has to be said about it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog

from millrace.providers.backoff import GiveUp, RetryHere, Verdict
from millrace.providers.circuit import Permit
from millrace.providers.protocol import (
    Completion,
    ModelRequest,
    ModelServer,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    UsageSoFar,
)
from millrace.providers.rate_limit import Reservation
from millrace.schemas.call import Call
from millrace.schemas.chunk import ToolCallDelta
from millrace.schemas.errors import ErrorInfo, PipelineError, ProviderError
from millrace.schemas.ids import NewId
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.usage import Timing
from millrace.schemas.vocabulary import AttemptStatus, CancelledScope
from millrace.streams import crash_points
from millrace.streams.books import Spent
from millrace.streams.call_records import CallRecords
from millrace.streams.cancellations import Cancellations
from millrace.streams.chunk_stream import ChunkStream
from millrace.streams.crash_points import CrashPoint
from millrace.streams.dead_letters import Clock
from millrace.streams.embedding_exchange import embed
from millrace.streams.quotas import Quotas
from millrace.streams.reckoning import Reckoning, Reply, milliseconds
from millrace.streams.retrying import Retrying, circuit_open
from millrace.streams.trying_again import again

log = structlog.get_logger(__name__)

_LONGEST_WAIT_SECONDS = 60.0
"""For a call that is put off because of a rate limit; it asks anew then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A call under way."""

    call: Call
    reckoning: Reckoning
    """That it began with."""
    quota: Reservation
    reservation: UsageEvent
    chunks: ChunkStream
    reply: Reply
    start: float


@dataclass(frozen=True, slots=True)
class _Try:
    """An attempt to be made at once, and what it has been granted and counted for already."""

    call: Call
    quota: Reservation | None
    input_tokens: int | None


@dataclass(slots=True, kw_only=True)
class Exchange:
    """Makes calls to one provider entry.

    `run` returns once the broker has acknowledged every record that the call gave rise to: its
    chunks, one outcome, and the ledger events; only then may the call's offset be committed.
    The ledger's `reserved` event is acknowledged before the provider hears of the call, so
    that no crash leaves a paid call out of the books.

    A failure after which the same model is worth another try is no outcome: the call goes on as
    its next attempt, here after a short wait or by way of the retries topic after a long one.
    """

    provider: ModelServer
    local: bool
    """Whether the provider runs on the operator's own hardware."""
    reckoning: Reckoning
    records: CallRecords
    retrying: Retrying
    quotas: Quotas
    cancellations: Cancellations
    clock: Clock
    new_id: NewId

    def is_over(self, call: Call) -> bool:
        """Whether the call was cancelled, or its deadline has passed, so that it is not made."""
        job = call.job
        return self.clock() >= job.deadline or self.cancellations.covers(
            job.request_id, call.member
        )

    def is_turned_away(self, call: Call) -> bool:
        """Whether the call is not made now, as its model or its entry is known to be down."""
        return self.retrying.turns_away(call)

    async def run(
        self,
        call: Call,
        *,
        quota: Reservation | None = None,
        input_tokens: int | None = None,
        answered: Callable[[], object] = lambda: None,
    ) -> bool:
        """Make the call and say how it ended; `answered` is called when the provider is done.

        What is reserved in `quota` is settled, or given back, whatever happens; without it the
        call reserves for itself. `input_tokens` is their estimate, made here if it is not given.

        Returns whether this attempt is over; False if it was put off as it is, because its
        model must not be asked now.

        When the task is cancelled (shutdown, or the partition went to another process), the
        broken-off call is booked as an estimate, no outcome is written, and whoever reads the
        call next makes it again.

        Raises:
            BrokerError: A record cannot be written; the call must stay uncommitted.
        """
        current = _Try(call, quota, input_tokens)
        while isinstance(next_try := await self._attempt(current, answered), _Try):
            current = next_try
        return next_try == "over" or current.call is not call

    async def _attempt(
        self, current: _Try, answered: Callable[[], object]
    ) -> _Try | Literal["over", "put_off"]:
        """Make one attempt; returns the one to be made after it, if that is to be made here."""
        call, now = current.call, self.clock()
        job = call.job
        if self.cancellations.covers(job.request_id, call.member):
            unmade = self._end_unstarted(call, "cancelled", _cancelled(), now)
        elif now >= job.deadline:
            unmade = self._end_unstarted(call, "expired", _expired(), now)
        elif job.sensitivity == "private" and not self.local:
            # Planned when the entry was local, or by another config: it must not leave now.
            unmade = self._end_unstarted(call, "failed", _too_private(call), now)
        elif (permit := self.retrying.begin(call)) is not None:
            return await self._invoke(current, now, answered, permit) or "over"
        else:
            self.quotas.release(current.quota)
            return await self._turn_away(call, now)
        self.quotas.release(current.quota)
        await unmade
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
        outcome = AttemptOutcome(
            call=call,
            invocation=invocation,
            status=status,
            error=error,
            cancelled=self._cancelled_scope(call, status),
            timing=Timing(queued_ms=milliseconds(now - call.job.accepted_at)),
            finished_at=now,
        )
        await self.records.end_unstarted(outcome, self.records.chunk_stream(call, invocation))

    async def _invoke(
        self, current: _Try, started_at: datetime, answered: Callable[[], object], permit: Permit
    ) -> _Try | None:
        call = current.call
        invocation = self.new_id()
        reckoning = self.reckoning
        reservation = reckoning.reservation(
            call,
            invocation=invocation,
            started_at=started_at,
            input_tokens=current.input_tokens,
        )
        input_tokens = reservation.usage.input_tokens
        quota = current.quota or self.quotas.reserve_ahead(call, input_tokens)[0]
        reply = Reply()
        with self._telling(call, permit, reply), self.quotas.keeping(quota, reply):
            await self.records.reserve(call, reservation)
            if crash_points.armed:
                crash_points.reach(CrashPoint.CALL_RESERVED)
            begun = _Begun(
                call=call,
                reckoning=reckoning,
                quota=quota,
                reservation=reservation,
                chunks=self.records.chunk_stream(call, invocation),
                reply=reply,
                start=time.perf_counter(),
            )
            try:
                status, error = await self._converse(begun)
            except asyncio.CancelledError:
                error = ErrorInfo(
                    code="interrupted", message="the call was broken off; it is repeated"
                )
                result = self._spent(begun, "cancelled", error)
                reply.spent = result.usage
                await _finish_despite_cancellation(self._book(begun, result))
                raise
            if crash_points.armed:
                crash_points.reach(CrashPoint.CALL_ANSWERED)
            result = self._spent(begun, status, error)
            reply.spent = result.usage
        verdict = self._verdict(begun)
        if isinstance(verdict, GiveUp) or error is None:
            answered()
            await self._conclude(begun, result, error)
            return None
        seconds = verdict.seconds
        if isinstance(verdict, RetryHere):
            quota, wait = self.quotas.reserve_ahead(call, input_tokens)
            seconds = max(seconds, wait)
            if seconds <= self.retrying.backoff.settings.max_inline_seconds:
                following = _Try(again(call, result, error), quota, input_tokens)
                return await self._pause(begun, result, following, seconds)
            self.quotas.release(quota)
            seconds = min(seconds, _LONGEST_WAIT_SECONDS)
        answered()
        await self._put_off(begun, result, error, seconds)
        return None

    async def _pause(self, begun: _Begun, result: Spent, following: _Try, seconds: float) -> _Try:
        """Book the failed attempt, and return the next one when its time has come."""
        try:
            await self._book(begun, result)
            await self.retrying.pause(begun.call, seconds)
        except BaseException:
            self.quotas.release(following.quota)
            raise
        return following

    @contextmanager
    def _telling(self, call: Call, permit: Permit, reply: Reply) -> Iterator[None]:
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
            if crash_points.armed:
                crash_points.reach(CrashPoint.CALL_PUT_OFF)

    async def _converse(self, begun: _Begun) -> tuple[AttemptStatus, ErrorInfo | None]:
        """Ask and read until the answer is whole, or is not going to be."""
        call, reply = begun.call, begun.reply
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
                    await self._read(begun)
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
                key=error.key_alias,
                code=error.code,
                error=error.message,
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

    async def _read(self, begun: _Begun) -> None:
        call, reply, chunks = begun.call, begun.reply, begun.chunks
        if call.job.inputs:
            reply.completion = await embed(self.provider, call, quota=begun.quota)
            return
        request = ModelRequest(
            model=call.target.model,
            messages=call.messages,
            parameters=call.parameters,
            tools=call.tools,
            output=call.output,
            stream=call.stream,
            token_probabilities=_wants_probabilities(call),
            quota=begun.quota,
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

    def _spent(self, begun: _Begun, status: AttemptStatus, error: ErrorInfo | None) -> Spent:
        return begun.reckoning.spent(
            begun.reservation,
            begun.reply,
            status,
            error,
            queued=begun.reservation.started_at - begun.call.job.accepted_at,
            start=begun.start,
        )

    async def _book(self, begun: _Begun, result: Spent) -> None:
        await self.records.book(begun.call, begun.chunks, begun.reservation, result)

    async def _conclude(self, begun: _Begun, result: Spent, error: ErrorInfo | None) -> None:
        call, reply = begun.call, begun.reply
        completion = reply.completion if result.status == "completed" else None
        text = completion.text if completion else "".join(reply.text)
        outcome = AttemptOutcome(
            call=call,
            invocation=begun.reservation.invocation,
            status=result.status,
            text=text,
            reasoning=completion.reasoning if completion else "".join(reply.reasoning),
            tool_calls=completion.tool_calls if completion else (),
            embeddings=completion.embeddings if completion else (),
            refusal=completion.refusal if completion else "",
            finish_reason=result.finish_reason,
            usage=result.usage,
            cost_usd=result.cost_usd,
            cost_source=result.cost_source,
            timing=result.timing,
            error=error,
            response_id=completion.response_id if completion else None,
            token_probability=completion.token_probability if completion else None,
            cancelled=self._cancelled_scope(call, result.status),
            finished_at=result.finished_at,
        )
        await self.records.end(outcome, begun.chunks, begun.reservation, result)

    def _cancelled_scope(self, call: Call, status: AttemptStatus) -> CancelledScope | None:
        if status != "cancelled":
            return None
        return self.cancellations.scope(call.job.request_id, call.member)


def _wants_probabilities(call: Call) -> bool:
    rule = call.plan.cascade
    return rule is not None and rule.confidence == "logprobs" and call.role == "answer"


def _cancelled() -> ErrorInfo:
    return ErrorInfo(code="cancelled", message="the request was cancelled")


def _too_private(call: Call) -> ErrorInfo:
    return ErrorInfo(
        code="no_route",
        message=f"the request is private and provider {call.target.provider!r} runs in the cloud, "
        "though it was planned as local: let all processes have the same config",
    )


def _expired() -> ErrorInfo:
    return ErrorInfo(code="deadline_exceeded", message="the deadline of the request has passed")


async def _finish_despite_cancellation(work: Awaitable[None]) -> None:
    """Let `work` end although the task is being cancelled; a second cancellation stops it."""
    await asyncio.shield(asyncio.ensure_future(work))
