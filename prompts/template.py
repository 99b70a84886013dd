"""One version of a prompt template, compiled, and its rendering."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from jinja2 import Template, TemplateSyntaxError, meta, nodes
from jinja2.runtime import Context

from millrace.prompts.front_matter import FrontMatter, json_type, split, with_article
from millrace.prompts.sandbox import REFUSED_NODES, PromptEnvironment
from millrace.schemas.call import PromptRef
from millrace.schemas.errors import ConfigurationError, PromptError
from millrace.schemas.message import Message
from millrace.schemas.request import OutputSpec
from millrace.schemas.vocabulary import TaskType

_Role = Literal["system", "user"]
_ROLES: tuple[_Role, ...] = ("system", "user")
_SHOWN_NAME_CHARS = 60
_SHOWN_UNKNOWN_NAMES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPrompt:
    """The messages that a template made, and which template made them."""

    messages: tuple[Message, ...]
    ref: PromptRef
    task: TaskType
    output: OutputSpec | None
    """What the template says the answer must look like, if it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """A compiled template; made by `compile_template`. Rendering keeps no state."""

    head: FrontMatter
    ref: PromptRef
    max_rendered_chars: int
    _compiled: Template = field(repr=False)
    _lines_above: int = field(repr=False)

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.ref.name}@{self.ref.version}"

    def render(self, variables: Mapping[str, Any]) -> RenderedPrompt:
        """Fill the template in; the same variables always make the same messages.

        A variable given as null counts as not given.

        Raises:
            PromptError: Variables are missing, unknown or of the wrong type, or the template
                fails with them. The message names all of them, never a value.
        """
        context = self._compiled.new_context(self._bind(variables))
        texts = {
            role: self._run(self._compiled.blocks[role], context)
            for role in _ROLES
            if role in self._compiled.blocks
        }
        if not texts["user"].strip():
            raise PromptError(
                f"template {self.reference!r} makes an empty message with these variables"
            )
        messages = tuple(Message(role=role, content=text) for role, text in texts.items() if text)
        return RenderedPrompt(
            messages=messages, ref=self.ref, task=self.head.task, output=self.head.output
        )

    def _bind(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        bound: dict[str, Any] = {}
        problems: list[str] = []
        declared = self.head.variables
        for name, variable in declared.items():
            value = variables.get(name)
            if value is None:
                if variable.required:
                    problems.append(f"{name!r} is missing")
                bound[name] = variable.default
            elif variable.accepts(value):
                bound[name] = value
            else:
                expected = with_article(variable.type)
                problems.append(f"{name!r} must be {expected}, not {json_type(value)}")
        unknown = sorted(variables.keys() - declared.keys())
        problems += [
            f"{name[:_SHOWN_NAME_CHARS]!r} is unknown" for name in unknown[:_SHOWN_UNKNOWN_NAMES]
        ]
        if len(unknown) > _SHOWN_UNKNOWN_NAMES:
            problems.append(f"{len(unknown) - _SHOWN_UNKNOWN_NAMES} more are unknown")
        if problems:
            raise PromptError(
                f"the variables do not fit template {self.reference!r}: {'; '.join(problems)}; "
                f"it takes {', '.join(declared) or 'none'}"
            )
        return bound

    def _run(self, block: Callable[[Context], Iterator[str]], context: Context) -> str:
        pieces: list[str] = []
        room = self.max_rendered_chars
        try:
            for piece in block(context):
                pieces.append(piece)
                room -= len(piece)
                if room < 0:
                    break
        except Exception as error:  # noqa: BLE001 (raised again, as a PromptError)
            # A template can raise anything, and what it raises may quote a variable's value:
            # hence neither its text nor the error itself goes on.
            line = self._line(error.__traceback__)
            raise PromptError(
                f"template {self.reference!r} fails with these variables{line} "
                f"({type(error).__name__}): check their parts and what the template expects of them"
            ) from None
        if room < 0:
            raise PromptError(
                f"template {self.reference!r} makes more than {self.max_rendered_chars} "
                "characters with these variables: send less"
            )
        return "".join(pieces).strip("\n")

    def _line(self, trace: TracebackType | None) -> str:
        line = ""
        while trace is not None:
            if trace.tb_frame.f_globals.get("blocks") is self._compiled.blocks:
                number = self._compiled.get_corresponding_lineno(trace.tb_lineno)
                line = f" at line {number + self._lines_above}"
            trace = trace.tb_next
        return line


def compile_template(
    text: str, *, environment: PromptEnvironment, max_rendered_chars: int
) -> PromptTemplate:
    """Check and compile the text of a template file.

    Raises:
        ConfigurationError: The text is not a sound template: its head or syntax is wrong, it
            lacks a `user` block, has text outside its blocks, uses a variable that it does not
            declare, or declares one that it does not use.
    """
    head, body, lines_above = split(text)
    try:
        tree = environment.parse(body)
        problems = _structure(tree, lines_above) + _variables(tree, head)
        if problems:
            raise ConfigurationError("; ".join(problems))
        compiled = environment.from_string(tree)
    except TemplateSyntaxError as error:
        raise ConfigurationError(
            f"line {error.lineno + lines_above}: {error.message or 'syntax error'}"
        ) from error
    digest = hashlib.sha256(text.encode()).hexdigest()
    return PromptTemplate(
        head=head,
        ref=PromptRef(name=head.name, version=head.version, sha256=digest),
        max_rendered_chars=max_rendered_chars,
        _compiled=compiled,
        _lines_above=lines_above,
    )


def _structure(tree: nodes.Template, lines_above: int) -> list[str]:
    problems = []
    blocks = [node.name for node in tree.body if isinstance(node, nodes.Block)]
    if "user" not in blocks:
        problems.append("there is no block 'user'")
    problems += [
        f"the block {name!r} is unknown: use 'system' and 'user'"
        for name in blocks
        if name not in _ROLES
    ]
    problems += [
        f"line {node.lineno + lines_above}: only blocks may stand outside of blocks"
        for node in tree.body
        if not (isinstance(node, nodes.Block) or _is_blank(node))
    ]
    problems += [
        f"line {node.lineno + lines_above}: {type(node).__name__.lower()} is not available"
        for node in tree.find_all(REFUSED_NODES)
    ]
    return problems


def _is_blank(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Output) and all(
        isinstance(part, nodes.TemplateData) and not part.data.strip() for part in node.nodes
    )


def _variables(tree: nodes.Template, head: FrontMatter) -> list[str]:
    used = meta.find_undeclared_variables(tree) - {"range"}
    declared = head.variables.keys()
    return [
        *(f"the variable {name!r} is used but not declared" for name in sorted(used - declared)),
        *(f"the variable {name!r} is declared but not used" for name in sorted(declared - used)),
    ]
