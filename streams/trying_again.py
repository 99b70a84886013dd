"""What becomes of a call when the same model is asked again."""

from millrace.schemas.call import AttemptSummary, Call
from millrace.schemas.errors import ErrorCode, ErrorInfo
from millrace.streams.books import Spent

_ANSWERED: frozenset[ErrorCode] = frozenset({"output_invalid", "empty_reply"})
"""What the validator says of answers: the model was there, and is asked something else now."""


def tries(call: Call) -> int:
    """How often its model has been asked in a row, this call included.

    The message itself says so: no process has to remember it.
    """
    target = call.target
    count = 1
    for earlier in reversed(call.history):
        if earlier.status == "completed" or (earlier.error and earlier.error.code in _ANSWERED):
            break
        if (earlier.provider, earlier.model) != (target.provider, target.model):
            break
        count += 1
    return count


def again(call: Call, result: Spent, error: ErrorInfo) -> Call:
    """The attempt that follows a failed one at the same model, with the failure in its history."""
    failed = AttemptSummary(
        member=call.member,
        attempt=call.attempt,
        provider=call.target.provider,
        model=call.target.model,
        status="failed",
        error=error,
        usage=result.usage,
        cost_usd=result.cost_usd,
        role=call.role,
        tier=call.target.tier,
        repair=call.brief is not None and call.brief.repairs > 0,
    )
    following = call.following(candidate=call.candidate, failed=failed)
    if not call.budgets:
        return following
    # The same model at the same price: what the budgets hold for it stays held.
    claimed_as = call.claimed_as or call.attempt_id
    return following.model_copy(update={"budgets": call.budgets, "claimed_as": claimed_as})
