"""Mends JSON whose syntax is off, without adding or losing anything that it says.

The library guesses: of a text that broke off it closes what is open, of keys that stand twice it
keeps one, for a value that is missing it puts an empty text, and of a bare word it makes one. So
what it made is taken only if it has the very letters, digits and brackets of the original, in
the same order, and each of its texts was in quotes there; all that may differ are kinds of
quotes, commas, white space, escapes, lines that are comments, keys without quotes, and `True`,
`False`, `None` for JSON's words.
"""

import re
from collections.abc import Iterator
from typing import Any

import orjson
from json_repair import repair_json

MAX_MENDED_CHARS = 50_000
"""The library is slow, and for some texts slower than in proportion to their length."""

_MAX_OPEN_BRACKETS = 2_000
_COMMENT_LINE = re.compile(r"^[ \t]*(?://|#)[^\n]*$", re.MULTILINE)
_QUOTES = "\"'`“”‘’„"  # noqa: RUF001 (that models use)
_NO_QUOTES = str.maketrans("", "", _QUOTES)
_ONE_QUOTE = str.maketrans(dict.fromkeys(_QUOTES, '"'))
_NO_FILLING = str.maketrans("", "", " \t\r\n\f\b,\\")
_WORDS = {"True": "true", "False": "false", "None": "null"}
_WORD = re.compile(r"\b(?:True|False|None)\b")
_WHITE_ESCAPE = re.compile(r"\\{1,8}[nrtbf]")
_CODE_POINT = re.compile(r"\\u([0-9a-fA-F]{4})")


def mend_json(text: str) -> Any:
    """The value of a JSON object or array with mended syntax; None where that would be a guess."""
    if len(text) > MAX_MENDED_CHARS or text.count("[") + text.count("{") > _MAX_OPEN_BRACKETS:
        return None
    source = _COMMENT_LINE.sub("", text)
    try:
        value = repair_json(source, return_objects=True, skip_json_loads=True)
        written = orjson.dumps(value).decode()
    except (ValueError, TypeError, IndexError, RecursionError):
        # The library's ways to give up, and orjson's: a number or a surrogate it cannot write.
        return None
    if not isinstance(value, dict | list):
        return None
    before, after = _substance(source), _substance(written)
    if before.translate(_NO_QUOTES) != after.translate(_NO_QUOTES):
        return None
    return value if _in_quotes(_texts(value), before) else None


def _substance(text: str) -> str:
    """The text without what may differ, and with all quotes alike."""
    text = _CODE_POINT.sub(lambda found: chr(int(found[1], 16)), text)
    text = _WORD.sub(lambda found: _WORDS[found[0]], _WHITE_ESCAPE.sub("", text))
    return text.translate(_NO_FILLING).translate(_ONE_QUOTE)


def _texts(value: Any) -> Iterator[tuple[str, bool]]:
    """Every text in a value, in its order, and whether it is a key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield name, True
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value, False


def _in_quotes(texts: Iterator[tuple[str, bool]], source: str) -> bool:
    """Whether every text stands in quotes in the source, one behind the other; keys need none."""
    place = 0
    for text, is_key in texts:
        quoted = _substance(orjson.dumps(text).decode())
        wanted = (f"{quoted}:", f"{quoted[1:-1]}:") if is_key and quoted != '""' else (quoted,)
        found = [(at, len(each)) for each in wanted if (at := source.find(each, place)) >= 0]
        if not found:
            return False
        place = sum(min(found))
    return True
