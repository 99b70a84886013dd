"""Checks an answer against rules: its length, patterns, keys and language."""

from collections.abc import Iterator
from typing import Any

from millrace.agents.linear_patterns import check_rule_patterns, matches
from millrace.agents.validation.text_language import LANGUAGES, language_of
from millrace.agents.validation.verdict import Problem
from millrace.schemas.errors import InvalidEventError
from millrace.schemas.request import OutputRules


def check_rules(rules: OutputRules) -> None:
    """See to it that rules can be applied.

    Raises:
        InvalidEventError: A pattern cannot be compiled, or the language is none that can be told.
    """
    check_rule_patterns((*rules.must_match, *rules.must_not_match))
    if rules.language is not None and rules.language not in LANGUAGES:
        raise InvalidEventError(
            f"the rule's language {rules.language!r} cannot be told from others: "
            f"use one of {', '.join(sorted(LANGUAGES))}"
        )


def broken_rules(rules: OutputRules, text: str, data: Any) -> Iterator[Problem]:
    """Name each rule that the answer breaks. A language that is not clear breaks none."""
    length = len(text)
    if rules.min_chars is not None and length < rules.min_chars:
        yield Problem(
            "min_chars",
            f"the answer has {length} characters, fewer than {rules.min_chars}",
            f"Write at least {rules.min_chars} characters.",
        )
    if rules.max_chars is not None and length > rules.max_chars:
        yield Problem(
            "max_chars",
            f"the answer has {length} characters, more than {rules.max_chars}",
            f"Write at most {rules.max_chars} characters.",
        )
    for pattern in rules.must_match:
        if not matches(pattern, text):
            yield Problem(
                "must_match",
                f"the answer has nothing that matches {pattern!r}",
                "Write it so that this regular expression is found in it.",
            )
    for pattern in rules.must_not_match:
        if matches(pattern, text):
            yield Problem(
                "must_not_match",
                f"the answer has something that matches {pattern!r}",
                "Leave out whatever this regular expression finds.",
            )
    missing = [key for key in rules.required_keys if not _has(data, key)]
    if missing:
        named = ", ".join(map(repr, missing))
        yield Problem("required_keys", f"the JSON lacks {named}", f"Add {named}.")
    if rules.language is not None and language_of(text) not in {rules.language, None}:
        yield Problem(
            "language",
            f"the answer is not written in the language {rules.language!r}",
            f"Write it in the language whose ISO 639-1 code is {rules.language!r}.",
        )


def _has(data: Any, key: str) -> bool:
    if isinstance(data, dict) and key in data:
        return True
    for name in key.split("."):
        if not isinstance(data, dict) or name not in data:
            return False
        data = data[name]
    return True
