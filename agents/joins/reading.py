"""Reads what judges, raters, planners and others answer; their form has been validated before."""

from typing import Any, get_args

from millrace.agents.joins.steps import Part
from millrace.schemas.vocabulary import TaskType


def chosen_answer(data: Any, *, answers: int) -> int | None:
    """The index of the answer that a judge chose, counted from 0; None where it names none."""
    best = data.get("best") if isinstance(data, dict) else None
    if isinstance(best, bool) or not isinstance(best, int | float) or best != int(best):
        return None
    return int(best) - 1 if 1 <= best <= answers else None


def confidence(data: Any) -> float | None:
    """How sure a model says it is, from 0 to 1; None where it does not say."""
    rated = data.get("confidence") if isinstance(data, dict) else None
    if isinstance(rated, bool) or not isinstance(rated, int | float) or not 0 <= rated <= 1:
        return None
    return float(rated)


def task(data: Any) -> TaskType | None:
    """The task that a model named; None where it named none that there is."""
    named = data.get("task") if isinstance(data, dict) else None
    return next((each for each in get_args(TaskType) if each == named), None)


def parts(data: Any, *, limit: int) -> tuple[Part, ...]:
    """The parts that a planner made, in order, up to a limit; empty where it made none."""
    listed = data.get("parts") if isinstance(data, dict) else None
    found = [
        Part(title=each["title"], instructions=each["instructions"])
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict)
        and all(isinstance(each.get(name), str) for name in ("title", "instructions"))
    ]
    return tuple(found[:limit])
