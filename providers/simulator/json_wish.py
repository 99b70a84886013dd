"""Finds a wish for JSON in the messages' text, where no field of the request expresses it."""

import re
from collections.abc import Mapping
from json import JSONDecodeError, JSONDecoder
from typing import Any

from millrace.providers.simulator.call import Turn

_WISH = re.compile(
    r"\b(?:answer|respond|reply|return|output|produce|give|emit|write)\b[^.\n]{0,60}\bjson\b"
    r"|\bjson (?:only|object only)\b|\bonly (?:valid )?json\b",
    re.IGNORECASE,
)
_DECODER = JSONDecoder()
_SCHEMA_WORDS = ("type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const")


def wished_json(turns: tuple[Turn, ...], question: str) -> tuple[bool, Mapping[str, Any] | None]:
    """Say whether the system messages or the question ask for JSON, and with what schema."""
    for text in [turn.text for turn in turns if turn.role == "system"] + [question]:
        if "json" not in text and "JSON" not in text:
            continue
        wish = _WISH.search(text)
        if wish is not None:
            return True, _schema_after(text)
    return False, None


def _schema_after(text: str) -> Mapping[str, Any] | None:
    at = text.lower().find("schema")
    while at >= 0:
        at = text.find("{", at)
        if at < 0:
            return None
        try:
            found, _ = _DECODER.raw_decode(text, at)
        except (JSONDecodeError, RecursionError):
            return None
        if isinstance(found, dict) and any(word in found for word in _SCHEMA_WORDS):
            return found
        return None
    return None
