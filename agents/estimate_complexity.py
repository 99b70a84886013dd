"""Estimates how hard a request is, from 0 to 1, so that harder ones get stronger models."""

import math
import re
from dataclasses import dataclass

from millrace.schemas.call import Job
from millrace.schemas.vocabulary import TaskType

_READ_CHARS = 2_000
_SHORT_TOKENS = 50
_LONG_TOKENS = 16_000
_DEMANDING_TOKENS = 4_000
_MANY_STEPS = 6
_MANY_TOOLS = 8
_MANY_TURNS = 12
_WEIGHTS = (0.35, 0.25, 0.25, 0.15)

_TASKS: dict[TaskType, float] = {
    "summarization": 0.1,
    "general": 0.2,
    "documentation_generation": 0.3,
    "data_interpretation": 0.5,
    "requirement_analysis": 0.5,
    "code_review": 0.6,
    "error_diagnosis": 0.6,
    "code_generation": 0.6,
    "workflow_generation": 0.6,
    "bug_fixing": 0.7,
    "reasoning": 0.8,
}

_STEPS = re.compile(
    r"^[ \t]*(?:[-*]|\d{1,2}[.)])[ \t]|\?(?:\s|$)"
    r"|\b(?:step by step|trade-?offs?|prove|derive|compare|optimi[sz]e|constraints?|"
    r"edge cases?|architecture|concurren\w*|migrat\w+|must(?: not)?|except|unless)\b",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complexity:
    """How hard a request is: the weighted sum of its parts, each from 0 to 1."""

    length: float
    """Of the prompt: 0 to about 50 tokens, 1 from 16,000 on, by the logarithm."""
    task: float
    """What the kind of work is like in general."""
    steps: float
    """Questions, list items and words that ask for several considerations."""
    demands: float
    """Tools, a schema, a long answer, a long conversation."""

    @property
    def value(self) -> float:
        """From 0 to 1, in hundredths."""
        parts = (self.length, self.task, self.steps, self.demands)
        return round(sum(w * part for w, part in zip(_WEIGHTS, parts, strict=True)), 2)

    def __str__(self) -> str:
        return (
            f"complexity {self.value:g} (length {self.length:.2g}, task {self.task:g}, "
            f"steps {self.steps:.2g}, demands {self.demands:.2g})"
        )


def estimate_complexity(job: Job, *, prompt_tokens: int) -> Complexity:
    """Look at the job's sizes and at the beginning of its last message; deterministic."""
    reach = math.log(_LONG_TOKENS / _SHORT_TOKENS)
    length = math.log(max(prompt_tokens, _SHORT_TOKENS) / _SHORT_TOKENS) / reach
    text = job.messages[-1].text()[:_READ_CHARS]
    steps = sum(1 for _ in _STEPS.finditer(text)) / _MANY_STEPS
    answer = job.parameters.max_output_tokens or 0
    demands = (
        len(job.tools) / _MANY_TOOLS
        + (0.4 if job.output.json_schema is not None else 0.0)
        + answer / _DEMANDING_TOKENS / 2
        + len(job.messages) / _MANY_TURNS / 2
    )
    return Complexity(
        length=min(length, 1.0),
        task=_TASKS[job.task],
        steps=min(steps, 1.0),
        demands=min(demands, 1.0),
    )
