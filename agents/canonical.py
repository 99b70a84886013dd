"""One spelling for equal JSON values."""

from typing import Any

from millrace.schemas.record import canonical_json


def canonical(value: Any) -> bytes:
    """Spell a JSON value so that equal values, and only they, give equal bytes.

    Objects are equal whatever the order of their keys, numbers whatever their notation
    (`1`, `1.0`, `1e0`); texts are compared letter by letter.
    """
    return canonical_json(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
