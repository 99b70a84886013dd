"""Makes strings and numbers that fit a JSON Schema."""

import math
import random
import re
from collections.abc import Mapping
from typing import Any, Final

from millrace.providers.simulator.tokens import MARK

_LONGEST: Final = 100_000
"""Characters that are made at most, whatever the schema demands."""
_FORMATS: Final[Mapping[str, str]] = {
    "date-time": "2026-01-15T09:30:00Z",
    "date": "2026-01-15",
    "time": "09:30:00Z",
    "duration": "PT15M",
    "email": "simulated@example.com",
    "hostname": "simulated.example.com",
    "ipv4": "192.0.2.10",
    "ipv6": "2001:db8::10",
    "uri": "https://example.com/simulated",
    "uri-reference": "/simulated",
    "uuid": "018f0000-0000-7000-8000-000000000001",
    "json-pointer": "/simulated",
    "regex": "^simulated$",
}
_SHAPES: Final = (
    "simulated",
    "Simulated",
    "SIMULATED",
    "simulated_value",
    "simulated-value",
    "simulatedValue",
    "a",
    "A",
    "1",
    "12",
    "123",
    "1234",
    "12345",
    "123456",
    "1.0",
    "1.0.0",
    "v1.0.0",
    "ABC",
    "ABC-123",
    "A-1",
    "abc123",
    "R1",
    "REQ-001",
    "#1",
    "10%",
    "PT15M",
    "09:30",
    "0 9 * * *",
    "deadbeef",
    "018f0000-0000-7000-8000-000000000001",
    "2026-01-15",
    "2026-01-15T09:30:00Z",
    "https://example.com/simulated",
    "simulated@example.com",
    "/simulated",
    "+15550100",
    "",
)
_PHRASES: Final = (
    "follows from what was asked",
    "needs a second look",
    "is as expected",
    "can be improved in one place",
    "depends on the input's size",
    "was not stated, so the usual case is assumed",
)
_SHARES: Final = ("confidence", "score", "probability", "share", "ratio")
_INTEGERS: Final = 10
"""How many whole numbers are drawn from where the schema sets no bound."""


def string(schema: Mapping[str, Any], name: str, chance: random.Random, *, marked: bool) -> str:
    """Make a text; free text speaks of the property it is for, and bears the mark if asked."""
    least = min(int(schema.get("minLength", 0)), _LONGEST)
    most = schema.get("maxLength")
    if isinstance(schema.get("pattern"), str):
        return _shape(schema["pattern"], least, most)
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    words = re.sub(r"[_\-\s]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).strip()
    if words.lower() == "id" or words.lower().endswith(" id"):
        text = f"{words[0].upper()}-{chance.randrange(1, _INTEGERS)}"
    else:
        text = f"{words[:1].upper()}{words[1:]} {chance.choice(_PHRASES)}."
        text = f"{MARK} {text}" if marked else text
    if most is not None:
        text = text[: int(most)]
    return text.ljust(least, ".")


def integer(schema: Mapping[str, Any], chance: random.Random) -> int:
    """Make a whole number within the bounds."""
    low, high = _bounds(schema, span=_INTEGERS - 1, whole=True)
    step = schema.get("multipleOf") or 1
    return int(_multiple(low, high, step, chance))


def decimal(schema: Mapping[str, Any], name: str, chance: random.Random) -> float:
    """Make a number within the bounds; what is named like a share lies between 0 and 1."""
    step = schema.get("multipleOf")
    if step:
        low, high = _bounds(schema, span=_INTEGERS * step, whole=False)
        return float(_multiple(low, high, step, chance))
    is_share = any(word in name.lower() for word in _SHARES)
    low, high = _bounds(schema, span=1 if is_share else _INTEGERS, whole=False)
    value = low + (high - low) * (0.1 + 0.8 * chance.random())
    rounded = round(value, 2)
    return rounded if low < rounded < high else value


def _multiple(low: float, high: float, step: float, chance: random.Random) -> float:
    first, last = math.ceil(low / step), math.floor(high / step)
    return (first + chance.randrange(max(1, last - first + 1))) * step


def _bounds(schema: Mapping[str, Any], *, span: float, whole: bool) -> tuple[float, float]:
    low, high = _number(schema.get("minimum")), _number(schema.get("maximum"))
    above = _number(schema.get("exclusiveMinimum"))
    below = _number(schema.get("exclusiveMaximum"))
    if above is not None:
        above = math.floor(above) + 1 if whole else above
        low = above if low is None else max(low, above)
    if below is not None:
        below = math.ceil(below) - 1 if whole else below
        high = below if high is None else min(high, below)
    if low is None:
        low = 0 if high is None or high >= 0 else high - span
    return low, low + span if high is None else high


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _shape(pattern: str, least: int, most: Any) -> str:
    try:
        wanted = re.compile(pattern)
    except re.error:
        return "simulated"
    for shape in _SHAPES:
        if len(shape) >= least and (most is None or len(shape) <= most) and wanted.search(shape):
            return shape
    return "simulated"
