"""Whether a call is made now, again after a moment, or later by way of the retries topic."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from millrace.providers.backoff import Backoff, Verdict
from millrace.providers.circuit import Circuit, Circuits, Permit
from millrace.schemas.call import Call
from millrace.schemas.errors import BrokerError, ErrorInfo, ProviderError
from millrace.schemas.retry import Retry
from millrace.streams.cancellations import Cancellations
from millrace.streams.dead_letters import Clock
from millrace.streams.publisher import Publisher
from millrace.streams.trying_again import tries

_LEAST_SECONDS = 0.5
_SPREAD_SECONDS = 2.0
"""Calls that waited for the same circuit come back spread over this time: few may be probes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """What one provider entry's calls do besides being made."""

    backoff: Backoff
    circuits: Circuits
    cancellations: Cancellations
    publisher: Publisher
    topic: str
    """Of the calls that wait."""
    clock: Clock
    available: Callable[[], bool] = lambda: True
    """Whether the entry can be called at all, as far as is known."""

    def begin(self, call: Call) -> Permit | None:
        """Ask to make a call; None when it may not be made now.

        An entry that cannot be reached is left out where another candidate is left; without one
        the call is made, for it may find the entry well again.
        """
        return None if self._goes_elsewhere(call) else self.circuit(call).begin()

    def turns_away(self, call: Call) -> bool:
        """Whether `begin` would not permit the call; takes no permit."""
        return self._goes_elsewhere(call) or self.circuit(call).state == "open"

    def _goes_elsewhere(self, call: Call) -> bool:
        return call.next_candidate is not None and not self.available()

    def circuit(self, call: Call) -> Circuit:
        """The circuit of the model that the call is for."""
        return self.circuits.of(call.target.model)

    def verdict(self, call: Call, failure: ProviderError, *, begun: bool) -> Verdict:
        """What follows from a failure; `begun` tells whether any part of an answer came."""
        return self.backoff.decide(
            failure,
            tries=tries(call),
            begun=begun,
            remaining_seconds=self._remaining(call),
            other_candidate=call.next_candidate is not None,
        )

    def closed_for(self, call: Call) -> float | None:
        """Seconds for which a call should wait whose circuit is open; None to give it up.

        It waits only where no other candidate is left and its deadline comes later.
        """
        wait = self.circuit(call).retry_after + _LEAST_SECONDS
        wait += _SPREAD_SECONDS * self.backoff.draw()
        return wait if call.next_candidate is None and wait < self._remaining(call) else None

    async def pause(self, call: Call, seconds: float) -> None:
        """Wait so long, or until the request is cancelled."""
        job = call.job
        cancelled = asyncio.Event()
        with self.cancellations.watching(job.request_id, call.member, cancelled.set):
            if not self.cancellations.covers(job.request_id, call.member):
                with suppress(TimeoutError):
                    await asyncio.wait_for(cancelled.wait(), seconds)

    async def put_off(
        self, call: Call, reason: ErrorInfo, seconds: float
    ) -> "asyncio.Future[Any] | None":
        """Have a call wait on the retries topic; None when it has outgrown the topic.

        Raises:
            BrokerError: It cannot be written.
        """
        job = call.job
        not_before = self.clock() + timedelta(seconds=seconds)
        retry = Retry(call=call, not_before=not_before, reason=reason)
        key = job.conversation_id or job.request_id
        try:
            return await self.publisher.publish(
                self.topic, retry, key=key, headers=job.trace_headers()
            )
        except BrokerError as refusal:
            if refusal.code != "too_large":
                raise
            return None

    def _remaining(self, call: Call) -> float:
        return (call.job.deadline - self.clock()).total_seconds()


def circuit_open(call: Call) -> ErrorInfo:
    """Why a call was not made."""
    model = f"{call.target.provider}/{call.target.model}"
    message = f"{model} was not asked: its circuit is open, or its entry is out of reach"
    return ErrorInfo(code="provider_unavailable", message=message, retryable=True)
