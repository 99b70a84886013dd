"""What a call has cost: by the provider's count, or by ours where it did not say."""

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from millrace.providers.circuit import Ending, ending
from millrace.providers.protocol import Completion
from millrace.schemas.call import Call
from millrace.schemas.errors import ErrorCode, ErrorInfo, ProviderError
from millrace.schemas.ledger import UsageEvent
from millrace.schemas.unchecked import unchecked
from millrace.schemas.usage import Timing, Usage
from millrace.schemas.vocabulary import AttemptStatus, CostSource
from millrace.streams.books import Spent, reserved
from millrace.streams.dead_letters import Clock

_timing, _usage = unchecked(Timing), unchecked(Usage)

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
class Reply:
    """What has come of an answer so far."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_arguments: list[str] = field(default_factory=list)
    deltas: int = 0
    asked_at: float | None = None
    """When the provider was about to be asked, by the performance counter; None if it was not."""
    usage: Usage | None = None
    first_token_at: float | None = None
    completion: Completion | None = None
    key_alias: str | None = None
    """The key that was used for a call that failed, where the failure tells."""
    failure: ProviderError | None = None
    spent: Usage | None = None
    """What it took in all, once that is reckoned."""

    @property
    def ending(self) -> Ending:
        """What it tells of the provider; nothing when it was broken off."""
        if self.failure is None and self.completion is None:
            return "unknown"
        return ending(self.failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """Books the calls of one provider entry."""

    price: Price
    count_tokens: CountTokens
    clock: Clock

    def reservation(
        self, call: Call, *, invocation: str, started_at: datetime, input_tokens: int | None = None
    ) -> UsageEvent:
        """The ledger's event before the call is made, with its input estimated unless given."""
        if input_tokens is None:
            input_tokens = self.count_tokens.request(call)
        estimate = _usage(input_tokens=input_tokens, source="estimated")
        cost, source = self.price(call.target.model, estimate, None)
        return reserved(
            call,
            invocation=invocation,
            usage=estimate,
            cost_usd=cost,
            cost_source=source,
            started_at=started_at,
        )

    def spent(
        self,
        reservation: UsageEvent,
        reply: Reply,
        status: AttemptStatus,
        error: ErrorInfo | None,
        *,
        queued: timedelta,
        start: float,
    ) -> Spent:
        """What the call has cost, `start` being the performance counter's value at its start."""
        completion = reply.completion if status == "completed" else None
        usage = completion.usage if completion else None
        reported = completion.reported_cost_usd if completion else None
        if usage is None:
            usage = self._estimated(reply, error, reservation.usage)
        cost, source = self.price(reservation.model, usage, reported)
        first = reply.first_token_at
        return Spent(
            status=status,
            usage=usage,
            cost_usd=cost,
            cost_source=source,
            timing=_timing(
                queued_ms=milliseconds(queued),
                time_to_first_token_ms=None if first is None else round((first - start) * 1e3, 3),
                total_ms=round((time.perf_counter() - start) * 1e3, 3),
            ),
            finished_at=self.clock(),
            finish_reason=completion.finish_reason if completion else None,
            error_code=error.code if error else None,
            key_alias=completion.key_alias if completion else reply.key_alias,
        )

    def _estimated(self, reply: Reply, error: ErrorInfo | None, estimate: Usage) -> Usage:
        if reply.asked_at is None or (
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


def milliseconds(delta: timedelta) -> float:
    """A span that began before it ended, whatever two machines' clocks say."""
    return max(0.0, round(delta.total_seconds() * 1e3, 3))
