"""The calls that are not made: why, and how each of them ends."""

from dataclasses import dataclass
from datetime import datetime

from millrace.schemas.call import Call
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.ids import NewId
from millrace.schemas.outcome import AttemptOutcome
from millrace.schemas.usage import Timing
from millrace.schemas.vocabulary import AttemptStatus
from millrace.streams.call_records import CallRecords
from millrace.streams.cancellations import Cancellations
from millrace.streams.dead_letters import Clock
from millrace.streams.reckoning import milliseconds

Ending = tuple[AttemptStatus, ErrorInfo]
"""How an attempt ends that has no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmade:
    """Knows which calls must not be made, and ends those that are not.

    Nothing of them is in the ledger, and they cost nothing of a limit.
    """

    local: bool
    """Whether the provider runs on the operator's own hardware."""
    records: CallRecords
    cancellations: Cancellations
    clock: Clock
    new_id: NewId

    def is_over(self, call: Call) -> bool:
        """Whether the call was cancelled, or its deadline has passed."""
        job = call.job
        return self.clock() >= job.deadline or self.cancellations.covers(
            job.request_id, call.member
        )

    def ending(self, call: Call, now: datetime) -> Ending | None:
        """How the call ends without being made; None where nothing forbids it."""
        job = call.job
        if self.cancellations.covers(job.request_id, call.member):
            return "cancelled", cancelled()
        if now >= job.deadline:
            return "expired", expired()
        if job.sensitivity == "private" and not self.local:
            # Planned when the entry was local, or by another config: it must not leave now.
            return "failed", _too_private(call)
        return None

    async def end(self, call: Call, ending: Ending, now: datetime) -> None:
        """Write its outcome; return once the broker holds it.

        Raises:
            BrokerError: It cannot be written; the call must stay uncommitted.
        """
        status, error = ending
        job = call.job
        invocation = self.new_id()
        stopped = status == "cancelled"
        outcome = AttemptOutcome(
            call=call,
            invocation=invocation,
            status=status,
            error=error,
            cancelled=self.cancellations.scope(job.request_id, call.member) if stopped else None,
            timing=Timing(queued_ms=milliseconds(now - job.accepted_at)),
            finished_at=now,
        )
        await self.records.end_unstarted(outcome, self.records.chunk_stream(call, invocation))


def cancelled() -> ErrorInfo:
    """Why a call ends that a client, or a race that was won, has stopped."""
    return ErrorInfo(code="cancelled", message="the request was cancelled")


def expired() -> ErrorInfo:
    """Why a call ends whose time is up."""
    return ErrorInfo(code="deadline_exceeded", message="the deadline of the request has passed")


def _too_private(call: Call) -> ErrorInfo:
    return ErrorInfo(
        code="no_route",
        message=f"the request is private and provider {call.target.provider!r} runs in the cloud, "
        "though it was planned as local: let all processes have the same config",
    )
