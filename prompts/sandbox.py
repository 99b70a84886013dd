"""The jinja2 environment that templates run in: strict, deterministic and confined.

Templates come from the operator, their variables from anybody. Variables are only ever data:
no value is compiled. The sandbox is a second wall around mistakes in a template: no access to
Python's internals, no change of a value, nothing random, no file or other template, and no
expression that makes a huge value out of a small one. What it does not bound is the time of
nested loops over large variables.
"""

import re
from collections.abc import Callable
from typing import Any

import orjson
from jinja2 import StrictUndefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_EXPRESSION_LENGTH = 1_000_000
"""The longest text or list, in items, that a template may make by multiplication."""

REFUSED_NODES = (
    nodes.Extends,
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Macro,
    nodes.CallBlock,
)
"""Statements that reach outside the file, or recurse."""

_FILTERS = frozenset(
    """
    abs capitalize count d default dictsort first float groupby indent int items join last length
    list lower map max min reject rejectattr reverse round select selectattr sort string sum title
    trim truncate unique upper wordcount
    """.split()  # noqa: SIM905 (a list of 35 quoted words is harder to read)
)
_TEXT_METHODS = frozenset(
    """
    capitalize count endswith find isdigit lower lstrip partition removeprefix removesuffix
    rpartition rsplit rstrip split splitlines startswith strip title upper
    """.split()  # noqa: SIM905
)
_BACKTICKS = re.compile(r"`{3,}")


def fenced(text: str, label: str = "") -> str:
    """Put text between fences that nothing inside it can close.

    The fence is one backtick longer than the longest run in the text (CommonMark 0.31, fenced
    code blocks).
    """
    longest = max(map(len, _BACKTICKS.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{label}\n{text.strip(chr(10))}\n{fence}"


def _to_json(value: Any, indent: int | None = None) -> str:
    # jinja2's own filter escapes for HTML, which no model should have to read.
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0).decode()


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """An environment without loader, whose undefined names are errors."""

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        self.intercepted_binops = frozenset({"*", "**", "%"})
        self.filters = {name: self.filters[name] for name in _FILTERS}
        self.filters["fenced"] = fenced
        self.filters["tojson"] = _to_json
        self.globals = {"range": self.globals["range"]}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse the operators that make huge values."""
        if operator == "**":
            raise SecurityError("the operator '**' is not available")
        if operator == "%" and isinstance(left, str):
            raise SecurityError("formatting with '%' is not available")
        if operator == "*":
            for sequence, times in ((left, right), (right, left)):
                if (
                    isinstance(sequence, str | list | tuple)
                    and isinstance(times, int)
                    and len(sequence) * times > MAX_EXPRESSION_LENGTH
                ):
                    raise SecurityError("the product is too long")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow of a text's methods only those whose result is no longer than the text."""
        if isinstance(obj, str):
            return attr in _TEXT_METHODS
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ARG002 (the signature is jinja2's)
        """Leave `format` to `is_safe_attribute`, which refuses it: it can pad without bound."""
        return None
