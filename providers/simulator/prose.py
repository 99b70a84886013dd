"""What the simulator's prose is made of: an opening, code where the task wants it, sentences."""

from collections.abc import Mapping
from typing import Final

from millrace.providers.simulator.tokens import split_tokens
from millrace.schemas.vocabulary import TaskType

_KEYWORDS: Final[tuple[tuple[TaskType, tuple[str, ...]], ...]] = (
    ("code_review", ("review", "pull request", "diff --git")),
    ("documentation_generation", ("documentation", "docstring", "readme", "changelog", "runbook")),
    ("summarization", ("summar", "condense", "tl;dr", "key points")),
    ("workflow_generation", ("workflow", "pipeline step", "orchestrat", "plan the steps")),
    ("bug_fixing", ("fix this", "fix the", "fix it", "defect", "bug", "failing test")),
    ("code_generation", ("for this requirement", "implement", "write a", "you write", " script")),
    ("requirement_analysis", ("requirement", "user story", "acceptance criteria")),
    ("error_diagnosis", ("diagnos", "traceback", "stack trace", "root cause", "exception")),
    ("data_interpretation", ("data", "figures", "metric", "trend", "interpret")),
    ("reasoning", ("reason", "prove", "why", "how many", "decide", "trade-off", "compare")),
)
_LOOKED_AT: Final = 240
"""Characters of a text in which the task is looked for."""

_OPENINGS: Final[Mapping[TaskType, str]] = {
    "code_generation": "This implements {subject}.",
    "code_review": "Reviewed {subject}: three findings, one of them blocking.",
    "reasoning": "Taking {subject} step by step.",
    "summarization": "In short, on {subject}:",
    "error_diagnosis": "The likely cause behind {subject} is a value used before it was checked.",
    "data_interpretation": "What the figures on {subject} show:",
    "workflow_generation": "A workflow for {subject}:",
    "requirement_analysis": "Requirements found in {subject}:",
    "bug_fixing": "The fix for {subject} is small.",
    "documentation_generation": "Documentation of {subject}.",
    "general": "About {subject}:",
}
_SENTENCES: Final[Mapping[TaskType, tuple[str, ...]]] = {
    "code_generation": (
        "The input is read once, so memory stays constant.",
        "An empty input gives an empty result instead of an error.",
        "Keys are compared after trimming, as the examples imply.",
        "A unit test for the boundary follows the same shape.",
        "It runs in linear time and needs nothing beyond the standard library.",
    ),
    "code_review": (
        "Blocking: the connection is not closed when the second query fails.",
        "The retry loop has no upper bound; cap it and add jitter.",
        "The new branch lacks a test for the empty list.",
        "Rename the flag, since its default now means the opposite.",
        "Logging the whole payload may expose personal data.",
        "The rest reads well and keeps to the module's conventions.",
    ),
    "reasoning": (
        "First, state what is given and what is not.",
        "Then compare the options on cost, risk and time.",
        "The second option needs less coordination, but is harder to undo.",
        "If the assumption about load does not hold, the conclusion turns round.",
        "So the reversible option is the better one to begin with.",
    ),
    "summarization": (
        "The change was rolled out in two stages and paused once.",
        "Most of the delay came from one dependency.",
        "Customers in one region noticed slower responses for twenty minutes.",
        "The owners agreed on three follow-ups, each with a date.",
        "No data was lost.",
    ),
    "error_diagnosis": (
        "The trace shows the failure in the deserializer, not in the handler.",
        "The pool is exhausted because cancelled calls keep their connection.",
        "Check whether the clock of the failing host is behind.",
        "It began with the last deployment, which changed the default timeout.",
        "Reproduce it with a single worker and debug logging.",
    ),
    "data_interpretation": (
        "Volume rose by a tenth while the error share stayed flat.",
        "The median is stable; the tail has doubled since Tuesday.",
        "One team accounts for almost half of the cost.",
        "The weekend dip is seasonal and no cause for concern.",
        "Two days are missing, so the weekly mean is too low.",
    ),
    "workflow_generation": (
        "Step one validates the input and stops on the first problem.",
        "Step two fans out to the regions, four at a time.",
        "Step three waits for approval, at most one day.",
        "If a step fails twice, the run is rolled back and the owner is told.",
        "The last step writes a record of what was done.",
    ),
    "requirement_analysis": (
        "The export must finish within five minutes for ten thousand rows.",
        "It is not said who may see archived records; ask the product owner.",
        "Two statements contradict each other about retention.",
        "Acceptance: a user without the role gets a clear refusal.",
        "Availability is implied, but no figure is given.",
    ),
    "bug_fixing": (
        "The loop compared the index with the length instead of the last index.",
        "The lock is now released also when the callback raises.",
        "A test that failed before the change covers the case.",
        "No other caller relies on the old behaviour.",
        "The change is safe to deploy without a migration.",
    ),
    "documentation_generation": (
        "Call it with an open connection and a list of identifiers.",
        "It returns the rows in the order of the identifiers.",
        "It raises an error when an identifier is unknown.",
        "The default timeout is ten seconds; raise it for large batches.",
        "See the example below for a complete call.",
    ),
    "general": (
        "The short version is that it depends on the scale.",
        "For a small team the simplest option is usually enough.",
        "Measure first, since the bottleneck is rarely where one looks.",
        "A written decision saves the next discussion.",
        "Start with one service and widen from there.",
    ),
}
_CODE: Final[Mapping[TaskType, str]] = {
    "code_generation": (
        "\n\n```python\ndef group_by_key(rows, key):\n    groups = {}\n    for row in rows:\n"
        "        groups.setdefault(row[key], []).append(row)\n    return groups\n```\n\n"
    ),
    "bug_fixing": (
        "\n\n```python\ndef last_index(items):\n    if not items:\n        return None\n"
        "    return len(items) - 1\n```\n\n"
    ),
    "workflow_generation": (
        "\n\n```yaml\nsteps:\n  - name: validate\n  - name: roll-out\n    needs: validate\n"
        "  - name: report\n    needs: roll-out\n```\n\n"
    ),
}

_SUBJECT_WORDS: Final = 8
_SUBJECT_CHARACTERS: Final = 80
_SUBJECT_LINES: Final = 12
_NO_SUBJECT: Final = ("```", "~~~", "#", "<", "---")
_STOPS: Final = " \t.,:;!?#*`\"'"

SENTENCES: Final[Mapping[TaskType, tuple[tuple[str, ...], ...]]] = {
    task: tuple(tuple(split_tokens(f" {sentence}")) for sentence in sentences)
    for task, sentences in _SENTENCES.items()
}
"""Sentences fit for a task, as tokens, each beginning with its space."""

CODE: Final[Mapping[TaskType, tuple[str, ...]]] = {
    task: tuple(split_tokens(block)) for task, block in _CODE.items()
}
"""A code block fit for a task, as tokens."""


def task_of(text: str) -> TaskType:
    """Guess what kind of work a text asks for, from its words."""
    lowered = text[:_LOOKED_AT].lower()
    for task, words in _KEYWORDS:
        for word in words:
            if word in lowered:
                return task
    return "general"


def opening(task: TaskType, question: str) -> list[str]:
    """The tokens of a first sentence that names the subject of the question."""
    subject = " ".join(_subject_line(question).split()[:_SUBJECT_WORDS]).strip(_STOPS)
    return split_tokens(" " + _OPENINGS[task].format(subject=f"“{subject}”" if subject else "this"))


def _subject_line(question: str) -> str:
    # A template's first lines announce the matter, which follows within a fence.
    for line in question.split("\n", _SUBJECT_LINES)[:_SUBJECT_LINES]:
        text = line.strip()
        if text and not text.startswith(_NO_SUBJECT) and not text.endswith(":"):
            return text[:_SUBJECT_CHARACTERS]
    return question[:_SUBJECT_CHARACTERS]
