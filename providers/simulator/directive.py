"""Directives: `[[sim:NAME key=value …]]` within the last user message.

`[[sim:http=429 retry_after=2 times=1]]`, `[[sim:cut after=5]]`, `[[sim:answer="forty-two"]]`.
A name alone switches a behaviour on; `after` says where in the answer, `status` which HTTP
status. Several directives in one message add up.
"""

import re
from functools import lru_cache
from typing import Any, Final

import orjson
from pydantic import ValidationError

from millrace.providers.simulator.behaviour import Directive
from millrace.schemas.errors import RequestRefusedError
from millrace.schemas.record import describe

_OPEN: Final = "[[sim:"
_DIRECTIVE = re.compile(r'\[\[sim:((?:"(?:[^"\\]|\\.)*"|[^"\]]|\](?!\]))*)\]\]')
_ITEM = re.compile(r'\s*([a-z_]+)(?:=("(?:[^"\\]|\\.)*"|[^\s"]+))?(?=\s|$)')
_PLACED: Final = ("hang_mid", "cut", "cut_cleanly", "malformed", "error_in_stream")
_AFTER: Final = 3
"""Tokens before a fault whose place is not given."""
_STATUS: Final = 500


def without_directives(text: str) -> str:
    """The text as a model would read it."""
    return _DIRECTIVE.sub("", text).strip() if _OPEN in text else text


def find_directive(text: str) -> Directive | None:
    """Read the directives of a message, or None when it has none; not those with `where`.

    Raises:
        RequestRefusedError: A directive is not closed, or says something unknown.
    """
    return _read(text)[0] if _OPEN in text else None


def find_conditional(text: str) -> tuple[Directive, ...]:
    """Read the directives of a message that say with `where` which calls they are for.

    Raises:
        RequestRefusedError: As for `find_directive`.
    """
    return _read(text)[1] if _OPEN in text else ()


@lru_cache(maxsize=4096)
def _read(text: str) -> tuple[Directive | None, tuple[Directive, ...]]:
    bodies = _DIRECTIVE.findall(text)
    if len(bodies) != text.count(_OPEN):
        raise RequestRefusedError("a [[sim: directive is not closed; end it with ]]")
    items: dict[str, Any] = {}
    conditional: list[Directive] = []
    for body in bodies:
        read = _items(body)
        if "where" in read:
            conditional.append(_directive(read))
        else:
            items.update(read)
    whole = _directive(items) if len(conditional) < len(bodies) else None
    return whole, tuple(conditional)


def _directive(items: dict[str, Any]) -> Directive:
    try:
        return Directive.model_validate(items)
    except ValidationError as error:
        raise RequestRefusedError(f"a [[sim: directive is wrong: {describe(error)}") from error


def _items(body: str) -> dict[str, Any]:
    items: dict[str, Any] = {}
    at = 0
    body = body.rstrip()
    while at < len(body):
        match = _ITEM.match(body, at)
        if match is None:
            raise RequestRefusedError(
                f"a [[sim: directive is wrong at {body[at : at + 20]!r}; write name or name=value"
            )
        name, value = match.groups()
        items[name] = _value(name, value)
        at = match.end()
    after, status = items.pop("after", None), items.pop("status", None)
    if after is not None:
        for name in _PLACED:
            if name in items:
                items[name] = after
    if status is not None:
        items["http"] = status
    return items


def _value(name: str, raw: str | None) -> Any:
    if raw is None:
        return _AFTER if name in _PLACED else _STATUS if name == "http" else True
    if not raw.startswith('"'):
        return raw
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RequestRefusedError(
            f"a [[sim: directive has a bad string for {name!r}; quote it as JSON does"
        ) from error
