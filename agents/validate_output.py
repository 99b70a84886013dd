"""Checks an answer against what the request and the operator want of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, get_args

from millrace.agents.json_schema import compile_schema
from millrace.agents.validation.fences import fenced_blocks
from millrace.agents.validation.find_code import FoundCode, find_code
from millrace.agents.validation.find_json import FIDELITY, FoundJson, find_json
from millrace.agents.validation.json_size import size_problem
from millrace.agents.validation.policy import TaskValidation, ValidationPolicy
from millrace.agents.validation.rules import broken_rules
from millrace.agents.validation.validators import (
    Answer,
    Validator,
    ValidatorFailedError,
    seems_refused,
)
from millrace.agents.validation.verdict import InvalidOutput, Problem, ValidOutput
from millrace.schemas.errors import ErrorInfo
from millrace.schemas.request import OutputRules, OutputSpec
from millrace.schemas.vocabulary import FinishReason, TaskType

MAX_CHECKED_CHARS = 1_000_000
"""Of an answer that has to be checked; more than any model writes in one go."""

_CUT_OFF = 0.5
_SEEMS_REFUSED = 0.2
_TASKS: tuple[TaskType, ...] = get_args(TaskType)
_WHOLE: Mapping[str, float] = {"complete": 1.0}
_EMPTY = InvalidOutput(
    ErrorInfo(code="empty_reply", message="the model answered with nothing", retryable=True)
)


@dataclass(slots=True)
class _Findings:
    """What the checks have come to so far."""

    parts: dict[str, float] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Validators that could not judge."""

    @property
    def score(self) -> float:
        return round(prod(self.parts.values()), 4)


@dataclass(frozen=True, slots=True)
class _Content:
    """The answer proper, taken out of what is around it."""

    text: str
    data: Any = None


@dataclass(frozen=True, kw_only=True)
class ValidateOutput:
    """Checks answers under the operator's policy; the same answer is always judged the same.

    The one exception is a team's own validator that takes too long once and not another time.
    Never raises for any answer; takes time in proportion to its length, and refuses to check one
    beyond `MAX_CHECKED_CHARS`.
    """

    policy: ValidationPolicy
    validators: Mapping[str, Validator]
    """By name; must hold all that the policy names."""
    _by_task: dict[TaskType | None, TaskValidation] = field(init=False, repr=False)
    _free: frozenset[TaskType | None] = field(init=False, repr=False)
    """Tasks of which the operator asks nothing: their plain texts go the short way."""

    def __post_init__(self) -> None:
        settings: dict[TaskType | None, TaskValidation] = {None: TaskValidation()}
        settings |= {task: self.policy.for_task(task) for task in _TASKS}
        free = {task for task, each in settings.items() if each.asks_nothing}
        object.__setattr__(self, "_by_task", settings)
        object.__setattr__(self, "_free", frozenset(free))

    def __call__(
        self,
        output: OutputSpec,
        text: str,
        finish_reason: FinishReason | None,
        *,
        tool_calls: int = 0,
        task: TaskType | None,
    ) -> ValidOutput | InvalidOutput:
        """Accept a complete answer, or say what is wrong with it.

        An answer with `tool_calls` is no final one, and is valid as it stands. Where it answers
        no `task`, but a question of the pipeline's own, nothing of the operator's holds.
        """
        if tool_calls:
            return ValidOutput(text)
        if not text or text.isspace():
            return _EMPTY
        wanted = self._by_task[task]
        if output.format == "text" and task in self._free and _asks_nothing(output):
            return _plain(text, finish_reason)
        if len(text) > MAX_CHECKED_CHARS:
            return _too_long(len(text))
        findings = _Findings()
        content = _content(output, text, finish_reason, wanted, findings)
        if isinstance(content, InvalidOutput):
            return content
        if content is not None:
            self._check(output, content, finish_reason, task, findings)
        return self._verdict(content, wanted, findings)

    def _check(
        self,
        output: OutputSpec,
        content: _Content,
        finish_reason: FinishReason | None,
        task: TaskType | None,
        findings: _Findings,
    ) -> None:
        """Apply rules and validators to what the answer holds."""
        wanted = self._by_task[task]
        for rules in (wanted.rules, output.rules):
            if not rules.asks_nothing:
                _apply(rules, output, content, findings)
        names = dict.fromkeys((*wanted.validators, *output.validators))
        if not names:
            return
        answer = Answer(content.text, content.data, output.format, finish_reason, task)
        for name in names:
            self._ask(name, answer, findings)

    def _ask(self, name: str, answer: Answer, findings: _Findings) -> None:
        validator = self.validators.get(name)
        if validator is None:
            findings.failed.append(f"validator {name!r} is not installed here")
            return
        try:
            verdict = validator(answer)
        except ValidatorFailedError as error:
            findings.failed.append(f"validator {name!r} {error}")
            return
        findings.parts[name] = min(verdict.score, 0.5) if verdict.problems else verdict.score
        findings.problems.extend(verdict.problems)

    def _verdict(
        self, content: _Content | None, wanted: TaskValidation, findings: _Findings
    ) -> ValidOutput | InvalidOutput:
        score = findings.score
        if findings.failed and self.policy.when_validator_fails == "accept":
            findings.notes.extend(findings.failed)
        elif findings.failed and not findings.problems:
            message = f"the answer could not be judged: {'; '.join(findings.failed)}"
            return InvalidOutput(ErrorInfo(code="validator_failed", message=message), score=score)
        if not findings.problems and score < wanted.min_score:
            weak = min(findings.parts, key=lambda part: findings.parts[part])
            findings.problems.append(
                Problem(
                    "min_score",
                    f"the answer's score is {score}, less than {wanted.min_score}; "
                    f"its weakest part is {weak!r}",
                    "Write a better answer.",
                )
            )
        if findings.problems or content is None:
            return _invalid(findings)
        return ValidOutput(content.text, content.data, score, findings.parts, tuple(findings.notes))


def _asks_nothing(output: OutputSpec) -> bool:
    return not output.validators and output.rules.asks_nothing


def _plain(text: str, finish_reason: FinishReason | None) -> ValidOutput:
    if finish_reason != "length" and not seems_refused(text):
        return ValidOutput(text, parts=_WHOLE)
    parts = {"complete": _CUT_OFF if finish_reason == "length" else 1.0}
    if seems_refused(text):
        parts["refusal"] = _SEEMS_REFUSED
    return ValidOutput(text, score=round(prod(parts.values()), 4), parts=parts)


def _content(
    output: OutputSpec,
    text: str,
    finish_reason: FinishReason | None,
    wanted: TaskValidation,
    findings: _Findings,
) -> _Content | InvalidOutput | None:
    """Find the answer proper; None, with a problem, where it has not the form it should."""
    if output.format == "json":
        return _json(output, text.strip(), finish_reason, wanted, findings)
    findings.parts["complete"] = _CUT_OFF if finish_reason == "length" else 1.0
    if seems_refused(text):
        findings.parts["refusal"] = _SEEMS_REFUSED
    if output.format == "code":
        return _code(output, text, findings)
    if output.format == "markdown":
        return _markdown(text, findings)
    return _Content(text)


def _json(
    output: OutputSpec,
    text: str,
    finish_reason: FinishReason | None,
    wanted: TaskValidation,
    findings: _Findings,
) -> _Content | InvalidOutput | None:
    schema = None if output.json_schema is None else compile_schema(output.json_schema)
    cut_off = finish_reason == "length"
    found = find_json(text, schema, reach=wanted.extraction, complete=not cut_off)
    if not isinstance(found, FoundJson):
        if cut_off:
            return _cut_off_json()
        findings.parts["json"] = 0.0
        problem = Problem(
            "json",
            f"the answer is not JSON: {found.why}",
            "Give one strict JSON value and nothing else.",
        )
        findings.problems.append(problem)
        return None
    findings.parts["json"] = FIDELITY[found.how]
    if found.note is not None:
        findings.notes.append(found.note)
    too_large = size_problem(found.text, found.data)
    if too_large is not None:
        findings.parts["json"] = 0.0
        findings.problems.append(too_large)
        return None
    if schema is not None:
        problems = schema.problems(found.data)
        findings.parts["schema"] = 0.0 if problems else 1.0
        if problems:
            findings.problems.append(
                Problem(
                    "schema",
                    f"the answer does not fit the schema: {'; '.join(problems)}",
                    "Give JSON that is valid under the schema.",
                )
            )
    return _Content(found.text, found.data)


def _code(output: OutputSpec, text: str, findings: _Findings) -> _Content | None:
    found = find_code(text, output.language)
    if not isinstance(found, FoundCode):
        findings.parts[found.check] = 0.0
        findings.problems.append(found)
        return None
    if found.checked:
        findings.parts["syntax"] = 1.0
    findings.notes.extend(found.notes)
    return _Content(found.text)


def _markdown(text: str, findings: _Findings) -> _Content | None:
    blocks = fenced_blocks(text)
    if blocks and not blocks[-1].closed:
        findings.parts["markdown"] = 0.0
        findings.problems.append(
            Problem(
                "markdown",
                "the answer's last fenced block is not closed",
                "Close each fenced block with the fence that opened it.",
            )
        )
        return None
    whole = text.strip()
    if len(blocks) == 1 and blocks[0].language in {"markdown", "md"} and whole.startswith("```"):
        inside = blocks[0].text
        if whole.endswith("```") and len(whole) - len(inside) < 40:  # noqa: PLR2004 (both fences, and no more)
            findings.notes.append("took the Markdown out of its fence")
            return _Content(inside)
    return _Content(text)


def _apply(rules: OutputRules, output: OutputSpec, content: _Content, findings: _Findings) -> None:
    if rules.required_keys and output.format != "json":
        rules = rules.model_copy(update={"required_keys": ()})
    broken = tuple(broken_rules(rules, content.text, content.data))
    for problem in broken:
        if problem not in findings.problems:
            findings.problems.append(problem)
    findings.parts["rules"] = 0.0 if broken else findings.parts.get("rules", 1.0)


def _invalid(findings: _Findings) -> InvalidOutput:
    message = "; ".join(problem.message for problem in findings.problems)
    return InvalidOutput(
        ErrorInfo(code="output_invalid", message=message, retryable=True),
        tuple(findings.problems),
        findings.score,
    )


def _cut_off_json() -> InvalidOutput:
    message = (
        "the answer was cut off at its token limit before its JSON was complete: "
        "raise parameters.max_output_tokens"
    )
    return InvalidOutput(ErrorInfo(code="output_invalid", message=message, retryable=False))


def _too_long(length: int) -> InvalidOutput:
    message = (
        f"the answer has {length} characters, more than the {MAX_CHECKED_CHARS} that are checked"
    )
    problem = Problem("size", message, "Answer more briefly.")
    return InvalidOutput(
        ErrorInfo(code="output_invalid", message=message, retryable=True), (problem,)
    )
