"""What the operator asks of answers: `[validation]`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from millrace.agents.validation.find_json import Extraction
from millrace.agents.validation.rules import check_rules
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.record import Frozen
from millrace.schemas.request import Name, OutputRules, OutputSpec
from millrace.schemas.vocabulary import TaskType


class TaskValidation(Frozen):
    """What answers of one task must keep to: `[validation.tasks.<task>]`.

    What a task's section leaves out is taken from `[validation.default]`.
    """

    rules: OutputRules = OutputRules()
    """They hold besides those of the request. `required_keys` concern JSON answers only."""
    validators: tuple[Name, ...] = ()
    """By name, besides those of the request, in this order."""
    extraction: Extraction = "lines"
    """How far to go to find JSON in an answer: `strict` takes the whole text or nothing."""
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    """An answer whose score is lower is invalid."""
    max_repairs: Annotated[int, Field(ge=0, le=5)] = 1
    """How often a model is told what was wrong before the next one is asked, where the request
    does not say."""

    @property
    def asks_nothing(self) -> bool:
        """Whether any text will do."""
        return not self.validators and self.min_score == 0 and self.rules.asks_nothing

    @field_validator("rules")
    @classmethod
    def _can_be_applied(cls, rules: OutputRules) -> OutputRules:
        try:
            check_rules(rules)
        except InvalidEventError as error:
            raise ValueError(error.message) from error
        return rules


class ValidationPolicy(Frozen):
    """How answers are checked: `[validation]`."""

    validator_timeout_seconds: Annotated[float, Field(gt=0, le=10)] = 1.0
    """How long a team's own validator may look at an answer. Other records wait for it."""
    when_validator_fails: Literal["fail", "accept"] = "fail"
    """What becomes of an answer that a team's own validator failed to judge."""
    default: TaskValidation = TaskValidation()
    tasks: dict[TaskType, TaskValidation] = Field(default_factory=dict)

    def for_task(self, task: TaskType) -> TaskValidation:
        """What holds for a task: its own section over the default one."""
        own = self.tasks.get(task)
        if own is None:
            return self.default
        given = {name: getattr(own, name) for name in own.model_fields_set}
        return self.default.model_copy(update=given)

    def repairs(self, output: OutputSpec, task: TaskType) -> int:
        """How often a model may be told what was wrong with its answer."""
        if output.max_repairs is not None:
            return output.max_repairs
        return self.for_task(task).max_repairs

    @property
    def named_validators(self) -> frozenset[str]:
        """Every validator that some section names."""
        sections = (self.default, *self.tasks.values())
        return frozenset(name for section in sections for name in section.validators)
