"""Mends JSON whose syntax is off, without adding or losing anything that it says.

The library guesses: of a text that broke off it closes what is open, and of keys that stand
twice it keeps one. So what it made is taken only if it has the very letters, digits and
brackets of the original, in the same order; all that may differ are quotes, commas, white
space, escapes, lines that are comments, and `True`, `False`, `None` for JSON's words.
"""

import re
from typing import Any

import orjson
from json_repair import repair_json

MAX_MENDED_CHARS = 50_000
"""The library is slow, and for some texts slower than in proportion to their length."""

_MAX_OPEN_BRACKETS = 2_000
_COMMENT_LINE = re.compile(r"^[ \t]*(?://|#)[^\n]*$", re.MULTILINE)
_FILLING = str.maketrans("", "", " \t\r\n\f\b\"'`,\\“”‘’„")  # noqa: RUF001 (quotes that models use)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_WORD = re.compile(r"\b(?:True|False|None)\b")
_NO_VALUE = re.compile(r"[:\[,]\s{0,99}[-+]?(?:NaN|nan|Infinity|inf|undefined)\b")
"""What JSON cannot say, and the library makes a text."""

_WHITE_ESCAPE = re.compile(r"\\{1,8}[nrtbf]")
_CODE_POINT = re.compile(r"\\u([0-9a-fA-F]{4})")


def mend_json(text: str) -> Any:
    """The value of a JSON object or array with mended syntax; None where that would be a guess."""
    if len(text) > MAX_MENDED_CHARS or text.count("[") + text.count("{") > _MAX_OPEN_BRACKETS:
        return None
    source = _COMMENT_LINE.sub("", text)
    if _NO_VALUE.search(source):
        return None
    try:
        value = repair_json(source, return_objects=True, skip_json_loads=True)
        written = orjson.dumps(value).decode()
    except (ValueError, TypeError, IndexError, RecursionError):
        # The library's ways to give up, and orjson's: a number or a surrogate it cannot write.
        return None
    if not isinstance(value, dict | list) or _substance(source) != _substance(written):
        return None
    return value


def _substance(text: str) -> str:
    text = _CODE_POINT.sub(lambda found: chr(int(found[1], 16)), text)
    text = _WORD.sub(lambda found: _WORDS[found[0]], _WHITE_ESCAPE.sub("", text))
    return text.translate(_FILLING)
