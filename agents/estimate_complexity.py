"""Estimates how hard a request is, from 0 to 1, so that harder ones get stronger models."""

import math
from typing import NamedTuple

from millrace.schemas.call import Job
from millrace.schemas.vocabulary import TaskType

_READ_CHARS = 1_200
_SHORT_TOKENS = 50
_LONG_TOKENS = 16_000
_REACH = math.log(_LONG_TOKENS / _SHORT_TOKENS)
_DEMANDING_TOKENS = 4_000
_MANY_STEPS = 6
_MANY_TOOLS = 8
_MANY_TURNS = 12
_LENGTH_WEIGHT = 0.35
_TASK_WEIGHT = 0.25
_STEPS_WEIGHT = 0.25
_DEMANDS_WEIGHT = 0.15

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

_STEPS = (
    "?", "\n- ", "\n* ", "\n1", "\n2", "\n3", "\n4", "step by step", "trade-off", "prove", "derive",
    "compare", "optimi", "constraint", "edge case", "concurren", "migrat", " must ", "unless ",
)  # fmt: skip
"""Each occurrence is a consideration. Counted one by one, as that is quicker than an expression."""


class Complexity(NamedTuple):
    """How hard a request is: the weighted sum of its parts, each from 0 to 1."""

    value: float
    """From 0 to 1, in hundredths."""
    length: float
    """Of the prompt: 0 to about 50 tokens, 1 from 16,000 on, by the logarithm."""
    task: float
    """What the kind of work is like in general."""
    steps: float
    """Questions, list items and words that ask for several considerations."""
    demands: float
    """Tools, a schema, a long answer, a long conversation."""

    def __str__(self) -> str:
        return (
            f"complexity {self.value:g} (length {self.length:.2g}, task {self.task:g}, "
            f"steps {self.steps:.2g}, demands {self.demands:.2g})"
        )


def estimate_complexity(job: Job, *, prompt_tokens: int) -> Complexity:
    """Look at the job's sizes and at the beginning of its last message; deterministic."""
    length = math.log(max(prompt_tokens, _SHORT_TOKENS) / _SHORT_TOKENS) / _REACH
    text = job.messages[-1].text()[:_READ_CHARS].lower()
    steps = min(1.0, sum(map(text.count, _STEPS)) / _MANY_STEPS)
    answer = job.parameters.max_output_tokens or 0
    demands = (
        len(job.tools) / _MANY_TOOLS
        + (0.4 if job.output.json_schema is not None else 0.0)
        + answer / _DEMANDING_TOKENS / 2
        + len(job.messages) / _MANY_TURNS / 2
    )
    length, demands, task = min(length, 1.0), min(demands, 1.0), _TASKS[job.task]
    value = (
        _LENGTH_WEIGHT * length
        + _TASK_WEIGHT * task
        + _STEPS_WEIGHT * steps
        + _DEMANDS_WEIGHT * demands
    )
    return Complexity(value=round(value, 2), length=length, task=task, steps=steps, demands=demands)
