"""Short answers to closed questions, on which most models agree.

The answer depends on the seed and the question alone, so that an ensemble finds a majority; a
model may dissent, always in the same way.
"""

import re
from dataclasses import dataclass
from typing import Final

from millrace.providers.simulator.draw import number, share

_LONGEST: Final = 1500
"""Characters of a question that is looked at; what is longer is no short question."""
_OPTION_LENGTH: Final = 60

_YES_NO = re.compile(r"\byes\s*(?:/|or|,)\s*no\b|\bno\s*(?:/|or)\s*yes\b|\(y/n\)", re.IGNORECASE)
_TRUE_FALSE = re.compile(r"\btrue\s*(?:/|or|,)\s*false\b", re.IGNORECASE)
_ONE_OF = re.compile(
    r"\b(?:choose|pick|select|classify|answer|reply|respond|say|name)\b[^.?!\n]{0,80}?"
    r"(?:\bone of(?: these| the following)?(?: words| labels| options)?\b|\bbetween\b|\beither\b"
    r"|\bexactly one\b(?! of))\s*:?\s*(?P<list>[^.?!\n]{3,300})",
    re.IGNORECASE,
)
_CHOICE_WORDS: Final = ("one of", "between", "either", "exactly one")
_SEPARATOR = re.compile(r"\s*(?:[,;/|]\s*(?:or\s+|and\s+)?|\s+or\s+|\s+and\s+)\s*", re.IGNORECASE)
_LETTERED = re.compile(r"^\s*\(?([A-H])[).:]\s+\S", re.MULTILINE)
_NUMBER = re.compile(
    r"\b(?:only|just|single|one|plain|whole)\b[^.?!\n]{0,20}\b(?:number|integer)\b"
    r"|\b(?:number|integer) only\b|\bas (?:a|an) (?:number|integer)\b",
    re.IGNORECASE,
)
_SUM = re.compile(r"(?<![\w.])(-?\d{1,9})\s*([-+*x\u00d7])\s*(-?\d{1,9})(?![\w.])")
_GREATEST: Final = 100


@dataclass(frozen=True, slots=True)
class ClosedQuestion:
    """A question whose answer is one of a few."""

    options: tuple[str, ...]
    right: int | None = None
    """The index of the answer, where it can be worked out."""


def read_closed_question(text: str) -> ClosedQuestion | None:  # noqa: PLR0911 -- one a form
    """See whether a text asks for yes or no, for one of several words, or for a number."""
    if len(text) > _LONGEST:
        return None
    # Most texts are none: looking for a telling word first spares them the patterns.
    lowered = text.lower()
    if ("yes" in lowered or "y/n" in lowered) and _YES_NO.search(text):
        return ClosedQuestion(("Yes", "No"))
    if "false" in lowered and _TRUE_FALSE.search(text):
        return ClosedQuestion(("True", "False"))
    if any(word in lowered for word in _CHOICE_WORDS):
        listed = _ONE_OF.search(text)
        options = _options(listed["list"]) if listed is not None else ()
        if options:
            return ClosedQuestion(options)
    letters = tuple(dict.fromkeys(_LETTERED.findall(text))) if "\n" in text else ()
    if len(letters) > 1:
        return ClosedQuestion(letters)
    if ("number" in lowered or "integer" in lowered) and _NUMBER.search(text):
        return _numbers(text)
    return None


def answer_closed_question(
    question: ClosedQuestion, *, asked: str, model: str, seed: int, dissent: float
) -> str:
    """Pick the answer of a model, which `dissent` makes differ from the common one."""
    options = question.options
    common = number(seed, "closed", asked) % len(options)
    if question.right is not None:
        common = question.right
    if share(seed, "dissent", model, asked) < dissent:
        common += 1 + number(seed, "other", model, asked) % (len(options) - 1)
    return options[common % len(options)]


def _options(listed: str) -> tuple[str, ...]:
    parts = (part.strip(" \t\"'`*_()[]{}:") for part in _SEPARATOR.split(listed))
    options = tuple(dict.fromkeys(part for part in parts if part))
    if len(options) < 2 or any(len(option) > _OPTION_LENGTH for option in options):  # noqa: PLR2004 -- one option is no choice
        return ()
    return options


def _numbers(text: str) -> ClosedQuestion:
    task = _SUM.search(text)
    if task is None:
        return ClosedQuestion(tuple(str(value) for value in range(1, _GREATEST + 1)))
    left, sign, right = int(task[1]), task[2], int(task[3])
    result = left + right if sign == "+" else left - right if sign == "-" else left * right
    return ClosedQuestion(tuple(str(result + off) for off in range(10)), right=0)
