"""What a validator is, and those that come along.

A validator looks at one complete answer and says what it thinks of it. It is a plain function and
must be deterministic: a partition that is read again after a crash must be decided the same.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from millrace.agents.validation.verdict import Problem
from millrace.schemas.vocabulary import FinishReason, OutputFormat, TaskType


@dataclass(frozen=True, slots=True)
class Answer:
    """What a validator is shown."""

    text: str
    """The answer; for json and code that alone."""
    data: Any
    """The parsed answer, for json."""
    format: OutputFormat
    finish_reason: FinishReason | None
    task: TaskType | None
    """None where the answer is to a question of the pipeline's own."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a validator says."""

    problems: tuple[Problem, ...] = ()
    """What makes the answer invalid; none when it is fine."""
    score: float = 1.0
    """From 0 to 1; a part of the answer's score."""


FINE = Verdict()

Validator = Callable[[Answer], Verdict]
"""Raises `ValidatorFailedError`, and nothing else, where it cannot judge."""


class ValidatorFailedError(Exception):
    """A team's validator raised, took too long or said something that is no verdict."""


_REFUSAL_CHARS = 300
_REFUSAL = re.compile(
    r"\b(?:I(?:'m| am|’m) (?:very |really |truly )?(?:sorry|afraid|unable)|"  # noqa: RUF001 (as models write it)
    r"I (?:can(?:'t|not|’t)|won(?:'t|’t)|will not) (?:help|assist|provide|do that|comply|fulfill)|"  # noqa: RUF001
    r"as an AI(?: language)? model|my apologies, but I)",
    re.IGNORECASE,
)
_REFUSAL_MARKS = ("sorry", "afraid", "unable", "i can", "i won", "i will not", "as an ai", "apolog")
_PLACEHOLDER = re.compile(
    r"(?:#|//|--|/\*|<!--)[ \t]{0,4}(?:\.{3}|…|TODO:?[ \t]{0,2}(?:implement|add|fill|complete)|"
    r"(?:the )?rest of (?:the|your)|existing code|your code here|implementation here)"
    r"|\[(?:your|insert|company|project|date)[ _][^\]\n]{0,60}\](?!\()"
    r"|<(?:your|insert)[ _-][^>\n]{0,60}>"
    r"|\blorem ipsum\b",
    re.IGNORECASE,
)
_MIN_REPEATED = 6
_REPEATED_SHARE = 0.5


def seems_refused(text: str) -> bool:
    """Whether the answer begins by saying that there will be none."""
    opening = text[:_REFUSAL_CHARS].lower()
    # The expression takes ten times as long as this, and nearly every answer stops here.
    for mark in _REFUSAL_MARKS:
        if mark in opening:
            return _REFUSAL.search(opening) is not None
    return False


def no_refusal(answer: Answer) -> Verdict:
    """Wants an answer that does not begin with a refusal (in English)."""
    if not seems_refused(answer.text):
        return FINE
    problem = Problem(
        "no_refusal",
        "the answer begins with a refusal",
        "Answer what was asked, as far as you can.",
    )
    return Verdict((problem,), 0.0)


def no_placeholders(answer: Answer) -> Verdict:
    """Wants an answer without gaps left for the reader to fill: `[Your name]`, `# ... rest of`."""
    if _PLACEHOLDER.search(answer.text) is None:
        return FINE
    problem = Problem(
        "no_placeholders",
        "the answer leaves gaps to be filled",
        "Write it out in full: no placeholder, no comment in the place of code.",
    )
    return Verdict((problem,), 0.0)


def no_repetition(answer: Answer) -> Verdict:
    """Wants an answer that is not caught in a loop: the same long line, or run of eight words."""
    lines = [line for each in answer.text.splitlines() if len(line := each.strip()) >= 20]  # noqa: PLR2004
    words = answer.text.split()
    runs = [" ".join(words[place : place + 8]) for place in range(0, len(words), 8)]
    worst = max(_repeated_share(lines), _repeated_share(runs))
    if worst < _REPEATED_SHARE:
        return Verdict(score=round(1 - worst, 4))
    problem = Problem(
        "no_repetition",
        "the answer says the same over and over",
        "Say each thing once.",
    )
    return Verdict((problem,), round(1 - worst, 4))


def complete(answer: Answer) -> Verdict:
    """Wants an answer that the model ended itself, and no limit cut off."""
    if answer.finish_reason != "length":
        return FINE
    problem = Problem(
        "complete",
        "the answer was cut off at its token limit",
        "Answer more briefly, so that the answer is complete.",
    )
    return Verdict((problem,), 0.0)


def _repeated_share(pieces: list[str]) -> float:
    if len(pieces) < _MIN_REPEATED:
        return 0.0
    return 1 - len(set(pieces)) / len(pieces)


BUILT_IN: Mapping[str, Validator] = {
    "complete": complete,
    "no_placeholders": no_placeholders,
    "no_refusal": no_refusal,
    "no_repetition": no_repetition,
}
"""Those that come along, by name."""
