"""Checks the syntax of code, where a parser for its language is at hand.

Nothing is run, loaded or fetched: Python is parsed only, YAML stops at its events (no aliases are
followed, no objects made), XML may declare no entities.
"""

import ast
import tomllib
import warnings
from collections.abc import Callable
from xml.parsers import expat

import orjson
import yaml

MAX_CHECKED_CHARS = 200_000
"""Of one piece of code; a larger one takes too long to parse between two records."""

_ALIASES = {
    "py": "python", "python3": "python", "pycon": "pycon", "yml": "yaml", "svg": "xml",
    "js": "javascript", "ts": "typescript", "sh": "bash", "shell": "bash", "zsh": "bash",
    "c++": "cpp", "cs": "csharp", "c#": "csharp", "golang": "go", "rs": "rust", "rb": "ruby",
    "kt": "kotlin", "postgresql": "sql", "mysql": "sql", "sqlite": "sql", "tex": "latex",
    "docker": "dockerfile", "make": "makefile", "md": "markdown",
}  # fmt: skip


def language_name(name: str) -> str:
    """The usual name of a language: `py` is `python`."""
    name = name.lower()
    return _ALIASES.get(name, name)


def can_be_checked(language: str) -> bool:
    """Whether there is a parser for the language."""
    return language_name(language) in _PARSERS


def syntax_error(language: str, code: str) -> str | None:
    """What is wrong with the code, with its line; None when nothing is, or no parser is at hand.

    Quotes nothing of the code. What is longer than `MAX_CHECKED_CHARS` is not looked at.
    """
    parse = _PARSERS.get(language_name(language))
    if parse is None or len(code) > MAX_CHECKED_CHARS:
        return None
    try:
        return parse(code)
    except (RecursionError, MemoryError):
        return "it is nested too deeply to be parsed"


def _python(code: str) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(code)
        except SyntaxError as error:
            # Its message may name a word of the code, but no more.
            return _at(error.lineno, _without_quotes(error.msg))
        except ValueError:
            return "it holds characters that Python does not take"
    return None


def _json(code: str) -> str | None:
    try:
        orjson.loads(code)
    except orjson.JSONDecodeError as error:
        return _at(error.lineno, error.msg.partition(":")[0])
    return None


def _yaml(code: str) -> str | None:
    try:
        for _ in yaml.parse(code, Loader=_YAML_LOADER):
            pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        return _at(mark.line + 1 if mark else None, error.problem or "not YAML")
    except yaml.YAMLError:
        return "it holds characters that YAML does not take"
    return None


def _toml(code: str) -> str | None:
    try:
        tomllib.loads(code)
    except tomllib.TOMLDecodeError as error:
        return _without_quotes(str(error))
    return None


def _xml(code: str) -> str | None:
    parser = expat.ParserCreate()
    declared: list[str] = []

    def refuse(name: str, *_: object) -> None:
        declared.append(name)

    parser.EntityDeclHandler = refuse
    parser.DefaultHandler = None
    try:
        parser.Parse(code.encode("utf-8", "replace"), True)  # noqa: FBT003 (the last piece)
    except expat.ExpatError as error:
        return _at(error.lineno, expat.ErrorString(error.code))
    return "it declares entities, which are not taken" if declared else None


def _at(line: int | None, why: str) -> str:
    return why if line is None else f"line {line}: {why}"


def _without_quotes(message: str) -> str:
    before, quote, _ = message.partition("'")
    return f"{before.rstrip()} …" if quote else message


_YAML_LOADER: type = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_PARSERS: dict[str, Callable[[str], str | None]] = {
    "python": _python,
    "json": _json,
    "yaml": _yaml,
    "toml": _toml,
    "xml": _xml,
}
