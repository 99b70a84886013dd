"""Composes the conversation in which a model mends its answer."""

from collections.abc import Sequence

from millrace.agents.validation.verdict import Problem
from millrace.schemas.message import Message

MAX_ANSWER_CHARS = 12_000
"""Of the answer as it is shown to the model again; what is left out is cut from its middle."""

MAX_PROBLEMS = 10
MAX_PROBLEM_CHARS = 600

_BEFORE = "Your answer cannot be used as it is:"
_AFTER = (
    "Answer again, completely, with this put right and everything else kept as it was. "
    "Give only the answer: no apology and no explanation."
)


def compose_repair(
    messages: Sequence[Message], answer: str, problems: Sequence[Problem]
) -> tuple[Message, ...]:
    """Add the answer and what was wrong with it to the conversation.

    The same arguments make the same messages. What is added is bounded, whatever the model
    answered. With empty `messages` only what is added is given.
    """
    listed = [f"- {_shown(problem)}" for problem in _distinct(problems)[:MAX_PROBLEMS]]
    left_out = len(_distinct(problems)) - MAX_PROBLEMS
    if left_out > 0:
        listed.append(f"- and {left_out} more of the kind")
    told = "\n".join((_BEFORE, *listed, "", _AFTER))
    before = (Message(role="assistant", content=_middle_cut(answer)),) if answer.strip() else ()
    return (*messages, *before, Message(role="user", content=told))


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))


def _shown(problem: Problem) -> str:
    line = f"{problem.message}. {problem.suggestion}" if problem.suggestion else problem.message
    line = " ".join(line.split())
    return line if len(line) <= MAX_PROBLEM_CHARS else f"{line[: MAX_PROBLEM_CHARS - 1]}…"


def _middle_cut(answer: str) -> str:
    if len(answer) <= MAX_ANSWER_CHARS:
        return answer
    left_out = len(answer) - MAX_ANSWER_CHARS
    half = MAX_ANSWER_CHARS // 2
    return f"{answer[:half]}\n[… {left_out} characters left out …]\n{answer[-half:]}"
