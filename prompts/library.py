"""All prompt templates of a deployment, by name and version."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from jsonschema import SchemaError
from jsonschema.validators import Draft202012Validator, validator_for

from millrace.prompts.sandbox import PromptEnvironment
from millrace.prompts.template import PromptTemplate, RenderedPrompt, compile_template
from millrace.schemas.errors import ConfigurationError, PromptError

PACKAGED = Path(__file__).parent / "templates"
"""The folder of templates that come with Millrace, one for each task type."""

STEPS = Path(__file__).parent / "steps"
"""The folder of templates for what models are asked about other models' answers."""

MAX_RENDERED_CHARS = 1_000_000
"""The longest message that a template may make; Kafka's usual limit of a record is 1 MB."""


class PromptLibrary:
    """Finds templates by reference and renders them. Immutable once made."""

    def __init__(self, templates: Sequence[PromptTemplate]) -> None:
        self._by_reference = {template.reference: template for template in templates}
        for template in sorted(templates, key=lambda template: template.ref.version):
            self._by_reference[template.ref.name] = template
        self._templates = tuple(
            sorted(templates, key=lambda template: (template.ref.name, template.ref.version))
        )

    @classmethod
    def load(
        cls,
        paths: Sequence[Path] = (PACKAGED,),
        *,
        max_rendered_chars: int = MAX_RENDERED_CHARS,
    ) -> Self:
        """Read every `<name>@<version>.j2` in these folders; give `PACKAGED` too to keep ours.

        Raises:
            ConfigurationError: A folder cannot be read, a file is not a sound template, or two
                files hold the same name and version. The message names all of them.
        """
        environment = PromptEnvironment()
        problems: list[str] = []
        origins: dict[str, Path] = {}
        templates: list[PromptTemplate] = []
        for path in paths:
            if not path.is_dir():
                problems.append(f"{path}: not a folder of templates")
            for file in sorted(path.glob("*.j2")):
                try:
                    template = _read(file, environment, max_rendered_chars)
                except ConfigurationError as error:
                    problems.append(f"{file}: {error.message}")
                    continue
                first = origins.setdefault(template.reference, file)
                if first != file:
                    problems.append(f"{file}: {template.reference!r} stands in {first} already")
                templates.append(template)
        if problems:
            raise ConfigurationError("prompt templates are broken: " + "; ".join(problems))
        return cls(templates)

    @property
    def templates(self) -> tuple[PromptTemplate, ...]:
        """Every version of every template, by name and version."""
        return self._templates

    def get(self, reference: str) -> PromptTemplate:
        """Find `name@version`, or the newest version of `name`.

        Raises:
            PromptError: There is none; the message lists what there is.
        """
        template = self._by_reference.get(reference)
        if template is None:
            name = reference.partition("@")[0]
            versions = [t.reference for t in self._templates if t.ref.name == name]
            known = versions or sorted({t.ref.name for t in self._templates})
            raise PromptError(
                f"there is no template {reference!r}; there is {', '.join(known) or 'none at all'}"
            )
        return template

    def render(self, reference: str, variables: Mapping[str, Any]) -> RenderedPrompt:
        """Render `name@version`, or the newest version of `name`.

        Raises:
            PromptError: There is no such template, or the variables do not fit it.
        """
        return self.get(reference).render(variables)


def _read(file: Path, environment: PromptEnvironment, max_rendered_chars: int) -> PromptTemplate:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("cannot be read as UTF-8 text") from error
    template = compile_template(
        text, environment=environment, max_rendered_chars=max_rendered_chars
    )
    if file.name != f"{template.reference}.j2":
        raise ConfigurationError(f"must be named '{template.reference}.j2', as its head says")
    output = template.head.output
    if output is not None and output.json_schema is not None:
        schema = output.json_schema
        try:
            validator_for(schema, default=Draft202012Validator).check_schema(schema)
        except SchemaError as error:
            raise ConfigurationError(f"the output schema is wrong: {error.message}") from error
    return template
