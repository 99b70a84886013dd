"""What came of checking an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from millrace.schemas.errors import ErrorInfo


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an answer. Quotes nothing of it but names of properties."""

    check: str
    """What found it: `json`, `schema`, `syntax`, a rule or a validator by name."""
    message: str
    """What is wrong."""
    suggestion: str
    """What to change, as a sentence to the model."""


@dataclass(frozen=True, slots=True)
class ValidOutput:
    """An answer that keeps to what was asked."""

    text: str
    """The answer; for json and code that alone, without a fence or prose around it."""
    data: Any = None
    """The parsed answer, for json."""
    score: float = 1.0
    """From 0 to 1: the product of its parts."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What each check thought of the answer, from 0 to 1."""
    notes: tuple[str, ...] = ()
    """What had to be taken off or mended, and what could not be checked."""


@dataclass(frozen=True, slots=True)
class InvalidOutput:
    """An answer that does not."""

    error: ErrorInfo
    """`output_invalid`, `empty_reply` or `validator_failed`; retryable where another try may
    turn out better. Its message quotes nothing of the answer but names of properties."""
    problems: tuple[Problem, ...] = ()
    """What to tell the model; empty where telling it cannot help."""
    score: float = 0.0
