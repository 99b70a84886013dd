"""One call, from its record to everything that has to be said about it."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from millrace.providers.backoff import GiveUp, RetryHere, Verdict
from millrace.providers.circuit import Permit
from millrace.providers.rate_limit import Reservation
from millrace.schemas.call import Call
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.ids import NewId
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.unchecked import unchecked
from millrace.schemas.vocabulary import AttemptStatus
from millrace.streams import crash_points
from millrace.streams.books import Spent
from millrace.streams.call_records import CallRecords
from millrace.streams.cancellations import Cancellations
from millrace.streams.chunk_stream import ChunkStream
from millrace.streams.conversation import Conversation
from millrace.streams.crash_points import CrashPoint
from millrace.streams.dead_letters import Clock
from millrace.streams.loop_turns import LoopTurns
from millrace.streams.places import Place
from millrace.streams.quotas import Quotas
from millrace.streams.reckoning import Reckoning, Reply
from millrace.streams.retrying import Retrying, circuit_open
from millrace.streams.trying_again import again
from millrace.streams.unmade import Unmade

_outcome = unchecked(AttemptOutcome)

_LONGEST_WAIT_SECONDS = 60.0
"""For a call that is put off because of a rate limit; it asks anew then."""


class _Begun(NamedTuple):
    """A call under way."""

    call: Call
    reckoning: Reckoning
    """That it began with."""
    quota: Reservation
    reservation: UsageEvent
    chunks: ChunkStream
    reply: Reply
    start: float
    """When it was about to be reserved, by the performance counter."""
    call_json: bytes | None
    """The call as it was read."""


@dataclass(frozen=True, slots=True)
class _Try:
    """An attempt to be made at once, and what it has been granted and counted for already."""

    call: Call
    quota: Reservation | None
    input_tokens: int | None
    call_json: bytes | None = None
    """The call as it was read, if it was."""


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

    conversation: Conversation
    unmade: Unmade
    reckoning: Reckoning
    records: CallRecords
    retrying: Retrying
    quotas: Quotas
    cancellations: Cancellations
    turns: LoopTurns
    """For what comes after an answer, as other calls wait for theirs, or to be sent."""
    clock: Clock
    new_id: NewId

    def is_turned_away(self, call: Call) -> bool:
        """Whether the call is not made now, as its model or its entry is known to be down."""
        return self.retrying.turns_away(call)

    async def run(
        self,
        call: Call,
        *,
        place: Place | None = None,
        input_tokens: int | None = None,
        call_json: bytes | None = None,
    ) -> bool:
        """Make the call and say how it ended.

        Its `place` is taken when the reservation is acknowledged, and left when the provider is
        done. What the place has reserved of the rate limit is settled, or given back, whatever
        happens; a call without one reserves for itself and waits for nobody. `input_tokens` is
        their estimate, made here if it is not given. Given `call_json`, the call as it was read,
        its outcome holds those bytes, and the call is not written anew.

        Returns whether this attempt is over; False if it was put off as it is, because its
        model must not be asked now.

        When the task is cancelled (shutdown, or the partition went to another process), the
        broken-off call is booked as an estimate, or as nothing if it was not sent; no outcome is
        written, and whoever reads the call next makes it again.

        Raises:
            BrokerError: A record cannot be written; the call must stay uncommitted.
        """
        quota = None if place is None else place.quota
        current = _Try(call, quota, input_tokens, call_json)
        while isinstance(next_try := await self._attempt(current, place), _Try):
            current = next_try
        return next_try == "over" or current.call is not call

    async def _attempt(
        self, current: _Try, place: Place | None
    ) -> _Try | Literal["over", "put_off"]:
        """Make one attempt; returns the one to be made after it, if that is to be made here."""
        call, now = current.call, self.clock()
        ending = self.unmade.ending(call, now)
        if ending is None:
            permit = self.retrying.begin(call)
            if permit is not None:
                return await self._invoke(current, now, place, permit) or "over"
        self.quotas.release(current.quota)
        if ending is None:
            return await self._turn_away(call, now)
        await self.unmade.end(call, ending, now)
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
        await self.unmade.end(call, ("failed", error), now)
        return "over"

    async def _invoke(
        self, current: _Try, started_at: datetime, place: Place | None, permit: Permit
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
        begun = _Begun(
            call=call,
            reckoning=reckoning,
            quota=quota,
            reservation=reservation,
            chunks=self.records.chunk_stream(call, invocation),
            reply=reply,
            start=time.perf_counter(),
            call_json=current.call_json,
        )
        try:
            if place is not None:
                place.prepare()
            await self.records.reserve(call, reservation)
            if crash_points.armed:
                crash_points.reach(CrashPoint.CALL_RESERVED)
            try:
                status, error = await self.conversation.hold(
                    call, reply=reply, chunks=begun.chunks, quota=quota, place=place
                )
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
        finally:
            self._let_go(call, permit, quota, reply)
        verdict = self._verdict(begun)
        if isinstance(verdict, GiveUp) or error is None:
            _leave(place)
            try:
                await self.turns.wait()
            except asyncio.CancelledError:
                # It has been answered, and nobody shall pay for that without an answer.
                await _finish_despite_cancellation(self._conclude(begun, result, error))
                raise
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
        _leave(place)
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

    def _let_go(self, call: Call, permit: Permit, quota: Reservation, reply: Reply) -> None:
        """Settle what was reserved, and tell the model's circuit how the call ended."""
        try:
            self.quotas.settle(quota, reply)
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

    def _spent(self, begun: _Begun, status: AttemptStatus, error: ErrorInfo | None) -> Spent:
        asked_at = begun.reply.asked_at
        start = time.perf_counter() if asked_at is None else asked_at
        queued = begun.reservation.started_at - begun.call.job.accepted_at
        return begun.reckoning.spent(
            begun.reservation,
            begun.reply,
            status,
            error,
            queued=queued + timedelta(seconds=start - begun.start),
            start=start,
        )

    async def _book(self, begun: _Begun, result: Spent) -> None:
        await self.records.book(begun.call, begun.chunks, begun.reservation, result)

    async def _conclude(self, begun: _Begun, result: Spent, error: ErrorInfo | None) -> None:
        call, reply = begun.call, begun.reply
        completion = reply.completion if result.status == "completed" else None
        text = completion.text if completion else "".join(reply.text)
        await self.records.close(call, begun.chunks, result.status, result.finish_reason)
        # Vectors are the vendor's numbers as they came: those are looked at.
        make = AttemptOutcome if completion and completion.embeddings else _outcome
        outcome = make(
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
            cancelled=self.cancellations.scope(call.job.request_id, call.member)
            if result.status == "cancelled"
            else None,
            chunks=begun.chunks.written,
            finished_at=result.finished_at,
        )
        await self.records.end(
            outcome, begun.chunks, begun.reservation, result, call_json=begun.call_json
        )


def _leave(place: Place | None) -> None:
    if place is not None:
        place.leave()


async def _finish_despite_cancellation(work: Awaitable[None]) -> None:
    """Let `work` end although the task is being cancelled; a second cancellation stops it."""
    await asyncio.shield(asyncio.ensure_future(work))
