"""What a member does after an attempt that failed: mend the answer, or ask the next model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from millrace.agents.validation.verdict import InvalidOutput, Problem
from millrace.schemas.call import Brief, Call
from millrace.schemas.message import Message
from millrace.schemas.outcome import AttemptOutcome


class ComposeRepair(Protocol):
    """Writes the conversation in which a model is told what was wrong; must be deterministic."""

    def __call__(
        self, messages: tuple[Message, ...], answer: str, problems: tuple[Problem, ...]
    ) -> tuple[Message, ...]:
        """Continue what the model was asked with its answer and what is wrong with it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NextAttempt:
    """Decides about one member's next attempt."""

    compose_repair: ComposeRepair

    def after_invalid(
        self, outcome: AttemptOutcome, invalid: InvalidOutput, brief: Callable[[], Brief | None]
    ) -> Call | None:
        """Tell the model what was wrong as often as the plan allows, then ask the next one.

        `brief` makes what the member was asked in the first place. None once time is up, or
        nobody is left to ask.
        """
        call = outcome.call
        repairs = call.brief.repairs if call.brief else 0
        mendable = invalid.error.retryable and bool(invalid.problems) and bool(outcome.text.strip())
        if _too_late(outcome) or not mendable or repairs >= call.plan.max_repairs:
            return self.after_failure(outcome, brief, invalid=invalid)
        first = brief()
        # The first question and the last answer: what went wrong before is no use to the model.
        composed = self.compose_repair(call.asking(first).messages, outcome.text, invalid.problems)
        own = call.job.messages
        continues = composed[: len(own)] == own
        messages = composed[len(own) :] if continues else composed
        repair = (first or Brief(role=call.role, messages=messages)).model_copy(
            update={"messages": messages, "continues": continues, "repairs": repairs + 1}
        )
        failed = outcome.summary(invalid.error)
        return call.following(candidate=call.candidate, failed=failed).asking(repair)

    def after_failure(
        self,
        outcome: AttemptOutcome,
        brief: Callable[[], Brief | None],
        *,
        invalid: InvalidOutput | None = None,
    ) -> Call | None:
        """Ask the next candidate what this one was asked first."""
        call = outcome.call
        candidate = call.next_candidate
        if _too_late(outcome) or candidate is None:
            return None
        failed = outcome.summary(invalid.error if invalid else None)
        return call.following(candidate=candidate, failed=failed).asking(brief())


def _too_late(outcome: AttemptOutcome) -> bool:
    return outcome.status == "expired" or outcome.finished_at >= outcome.call.job.deadline
