"""What a call may ask of its provider entry: reserved before it is made, settled after it."""

from dataclasses import dataclass

from millrace.providers.rate_limit import RateLimiter, Reservation
from millrace.schemas.call import Call
from millrace.schemas.errors import ProviderError
from millrace.streams.reckoning import Reply

_EXPECTED_OUTPUT_TOKENS = 512
"""Reserved for an answer whose length the request does not limit; corrected when it is there."""


def expected_tokens(call: Call, input_tokens: int) -> int:
    """What a call is thought to take: its prompt, and the longest answer that it allows.

    Vectors are no tokens, and cost none.
    """
    if call.inputs:
        return max(1, input_tokens)
    return input_tokens + (call.parameters.max_output_tokens or _EXPECTED_OUTPUT_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """The rate limits of one entry, as its calls use them."""

    limiter: RateLimiter

    def reserve_ahead(self, call: Call, input_tokens: int) -> tuple[Reservation, float]:
        """Reserve for a call that is to begin after so many seconds; others wait behind it."""
        tokens = expected_tokens(call, input_tokens)
        return self.limiter.reserve_ahead(call.target.model, tokens)

    def release(self, quota: Reservation | None) -> None:
        """Give back what a call reserved that is not made."""
        if quota is not None:
            self.limiter.release(quota)

    def settle(self, quota: Reservation, reply: Reply) -> None:
        """Settle what was reserved by what the call took, however it ended."""
        failure, spent = reply.failure, reply.spent
        unasked = reply.asked_at is None or (failure is not None and not quota.sent)
        if spent is None or unasked:
            self.limiter.release(quota)
        elif failure is not None and _slows_down(failure):
            self.limiter.refused(quota, failure.retry_after)
        else:
            self.limiter.settle(quota, spent.input_tokens + spent.output_tokens)


def _slows_down(failure: ProviderError) -> bool:
    """Whether the provider wants fewer calls; a key that is used up is another matter."""
    return failure.code == "rate_limited" and failure.retryable and not failure.other_key
