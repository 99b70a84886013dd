"""Finds the fenced blocks of a Markdown text."""

import re
from dataclasses import dataclass

_FENCE = re.compile(r"[ \t]{0,20}(`{3,200}|~{3,200})[ \t]*([^\r\n]*)")


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences."""

    language: str
    """The first word behind the opening fence, in lower case; empty when there is none."""
    text: str
    closed: bool = True
    """False for a last block that nothing closes."""


def fenced_blocks(text: str) -> tuple[Block, ...]:
    """Every fenced block in order, as CommonMark has it, but however far it is indented."""
    if "```" not in text and "~~~" not in text:
        return ()
    blocks: list[Block] = []
    fence = language = ""
    inside: list[str] = []
    for line in text.split("\n"):
        found = _FENCE.match(line)
        mark, info = (found[1], found[2].strip()) if found else ("", "")
        if not fence:
            if mark and not (mark[0] == "`" and "`" in info):
                fence, language, inside = mark, _first_word(info), []
        elif mark.startswith(fence) and not info:
            blocks.append(Block(language, _joined(inside)))
            fence = ""
        else:
            inside.append(line)
    if fence:
        blocks.append(Block(language, _joined(inside), closed=False))
    return tuple(blocks)


def _first_word(info: str) -> str:
    words = info.split(maxsplit=1)
    return words[0].strip("{}.").lower() if words else ""


def _joined(lines: list[str]) -> str:
    return "\n".join(line.removesuffix("\r") for line in lines)
