"""What a template file says about itself, above its text."""

from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from millrace.schemas.errors import ConfigurationError
from millrace.schemas.record import Frozen, describe
from millrace.schemas.request import OutputSpec
from millrace.schemas.vocabulary import TaskType

VariableType = Literal["string", "integer", "number", "boolean", "array", "object"]

_FENCE = "---"
_TYPES: dict[VariableType, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}
_ARTICLE = {"integer": "an", "array": "an", "object": "an"}


class Variable(Frozen):
    """A value that a template takes. It is optional when a default is given, even null."""

    type: VariableType
    description: str = ""
    default: Any = None

    @property
    def required(self) -> bool:
        """Whether a request must give it."""
        return "default" not in self.model_fields_set

    def accepts(self, value: Any) -> bool:
        """Whether the value has the declared type; true and false are no numbers."""
        if isinstance(value, bool):
            return self.type == "boolean"
        return isinstance(value, _TYPES[self.type])

    @model_validator(mode="after")
    def _default_has_the_type(self) -> "Variable":
        if self.default is not None and not self.accepts(self.default):
            raise ValueError(
                f"the default must be {with_article(self.type)} or null, "
                f"not {json_type(self.default)}"
            )
        return self


class FrontMatter(Frozen):
    """The head of a template file."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    version: int = Field(ge=1)
    task: TaskType
    description: str = Field(min_length=1)
    variables: dict[str, Variable] = Field(default_factory=dict)
    output: OutputSpec | None = None


def split(text: str) -> tuple[FrontMatter, str, int]:
    """Part a template file into its head, its body, and the number of lines above the body.

    Raises:
        ConfigurationError: There is no head, or it is not what `FrontMatter` says; the message
            names each field that is wrong.
    """
    lines = text.split("\n")
    try:
        end = lines.index(_FENCE, 1)
    except ValueError:
        end = 0
    if lines[0] != _FENCE or not end:
        raise ConfigurationError(
            "the file must begin with YAML front matter between two lines of '---'"
        )
    try:
        head = FrontMatter.model_validate(yaml.safe_load("\n".join(lines[1:end])))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 2}" if mark is not None else ""
        raise ConfigurationError(f"the front matter is not valid YAML{where}") from error
    except ValidationError as error:
        raise ConfigurationError(f"the front matter is wrong: {describe(error)}") from error
    return head, "\n".join(lines[end + 1 :]), end + 1


def json_type(value: Any) -> str:
    """Name the JSON type of a value, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    for name, types in _TYPES.items():
        if isinstance(value, types):
            return with_article(name)
    return with_article(type(value).__name__)


def with_article(name: str) -> str:
    """Put "a" or "an" before the name of a type."""
    return f"{_ARTICLE.get(name, 'a')} {name}"
