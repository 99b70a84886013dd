"""What the row of a response is told of its members and tiers."""

from collections.abc import Sequence
from typing import Any

from millrace.schemas.call import AttemptSummary
from millrace.schemas.response import CascadeVerdict, EnsembleVerdict

_NO_MEMBERS = EnsembleVerdict(members=0, answered=0)


def verdict_columns(verdict: EnsembleVerdict | None) -> tuple[Any, ...]:
    """The columns `ensemble_mode` to `ensemble_missing`; empty and 0 for a single member."""
    verdict = verdict or _NO_MEMBERS
    return (
        verdict.mode or "",
        verdict.members,
        verdict.answered,
        verdict.agreeing,
        verdict.dissenting,
        verdict.missing,
    )


def strategy_columns(
    attempts: Sequence[AttemptSummary],
    verdict: EnsembleVerdict | None,
    cascade: CascadeVerdict | None,
) -> tuple[Any, ...]:
    """The columns `attempt_roles` to `cascade_results`."""
    members = verdict or _NO_MEMBERS
    return (
        [attempt.role for attempt in attempts],
        [attempt.tier for attempt in attempts],
        [attempt.repair for attempt in attempts],
        members.cancelled,
        members.timed_out,
        members.skipped,
        members.partial,
        members.agreement,
        members.decided_by or ("confidence" if cascade and cascade.tier is not None else ""),
        members.notes,
        *_cascade(cascade),
    )


def _cascade(cascade: CascadeVerdict | None) -> tuple[Any, ...]:
    if cascade is None:
        return ("", 0, None, False, [])
    return (
        cascade.confidence,
        cascade.tiers,
        cascade.tier,
        cascade.sufficed,
        [
            (
                each.tier,
                each.provider,
                each.model,
                each.confidence,
                each.threshold,
                each.sufficed,
            )
            for each in cascade.results
        ],
    )
