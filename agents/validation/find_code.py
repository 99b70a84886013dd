"""Finds the code that an answer gives, and checks its syntax."""

from dataclasses import dataclass

from millrace.agents.validation.fences import Block, fenced_blocks
from millrace.agents.validation.syntax import (
    MAX_CHECKED_CHARS,
    can_be_checked,
    language_name,
    syntax_error,
)
from millrace.agents.validation.verdict import Problem


@dataclass(frozen=True, slots=True)
class FoundCode:
    """The code alone."""

    text: str
    notes: tuple[str, ...] = ()
    checked: bool = False
    """Whether a parser has read all of it."""


def find_code(text: str, language: str | None) -> FoundCode | Problem:
    """Take the code out of an answer: its fenced blocks of the language, joined in their order.

    An answer without any fence is code as a whole. Blocks without a language count where none
    names the one that is wanted.
    """
    blocks = fenced_blocks(text)
    if blocks and not blocks[-1].closed:
        return Problem(
            "code",
            "the answer's last fenced block is not closed",
            "Close each fenced block with ```.",
        )
    if not blocks:
        return _checked((Block(language or "", text.strip("\n")),), ())
    fitting = _fitting(blocks, language)
    if not fitting:
        return Problem(
            "code",
            f"the answer holds no fenced block of {language}",
            f"Give the code in one fenced block that begins with ```{language}.",
        )
    notes = ("took the code out of its fence",)
    if len(fitting) > 1:
        notes = (f"joined {len(fitting)} blocks of code",)
    return _checked(fitting, notes)


def _fitting(blocks: tuple[Block, ...], language: str | None) -> tuple[Block, ...]:
    if language is None:
        return blocks
    wanted = language_name(language)
    named = tuple(each for each in blocks if language_name(each.language) == wanted)
    return named or tuple(each for each in blocks if not each.language)


def _checked(blocks: tuple[Block, ...], notes: tuple[str, ...]) -> FoundCode | Problem:
    languages = {each.language for each in blocks if each.language}
    for number, block in enumerate(blocks, 1):
        language = block.language or (languages.copy().pop() if len(languages) == 1 else "")
        wrong = syntax_error(language, block.text)
        if wrong is not None:
            which = f"block {number} of the code" if len(blocks) > 1 else "the code"
            return Problem(
                "syntax",
                f"{which} is not valid {language_name(language)}: {wrong}",
                f"Give complete code that a {language_name(language)} parser accepts.",
            )
    checked = all(can_be_checked(each.language) for each in blocks)
    if checked and any(len(each.text) > MAX_CHECKED_CHARS for each in blocks):
        checked = False
        notes = (*notes, f"did not check syntax: over {MAX_CHECKED_CHARS} characters")
    return FoundCode("\n\n".join(each.text for each in blocks), notes, checked=checked)
