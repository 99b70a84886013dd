"""From options of the command line to a request."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from millrace.schemas.errors import ConfigurationError
from millrace.schemas.record import describe
from millrace.schemas.request import Request


def request_tree(
    *,
    prompt: str | None,
    inputs: Sequence[str],
    dimensions: int | None,
    task: str | None,
    template: str | None,
    variables: Sequence[str],
    models: Sequence[str],
    providers: Sequence[str],
    strategy: str | None,
    members: int | None,
    hardware: str | None,
    private: bool,
    max_cost: str | None,
    max_tokens: int | None,
    temperature: float | None,
    schema: Path | None,
    now: datetime,
    stream: bool = False,
    team: str | None = None,
    lane: str | None = None,
    tags: Sequence[str] = (),
    request_id: str | None = None,
    conversation: str | None = None,
    reply_to: str | None = None,
    deadline: float | None = None,
) -> dict[str, Any]:
    """The JSON of the request that the options make; empty when none was given.

    Raises:
        ConfigurationError: A pair or a file cannot be read.
    """
    return _given(
        {
            "request_id": request_id,
            "task": task,
            "team": team,
            "lane": lane,
            "conversation_id": conversation,
            "prompt": prompt,
            "inputs": list(inputs),
            "dimensions": dimensions,
            "template": template,
            "variables": {name: _value(text) for name, text in pairs("--var", variables)},
            "route": _given(
                {
                    "strategy": strategy,
                    "providers": list(providers),
                    "models": list(models),
                    "hardware": hardware,
                    "sensitivity": "private" if private else None,
                    "max_cost_usd": max_cost,
                    "members": members,
                }
            ),
            "parameters": _given({"temperature": temperature, "max_output_tokens": max_tokens}),
            "output": _given(
                {"format": "json", "schema": _schema(schema)} if schema is not None else {}
            ),
            "deadline": (
                None
                if deadline is None
                else (now + timedelta(seconds=deadline)).isoformat(timespec="milliseconds")
            ),
            "stream": stream or None,
            "reply_to": reply_to,
            "tags": dict(pairs("--tag", tags)),
        }
    )


def single_request(tree: dict[str, Any]) -> Request:
    """Check the request.

    Raises:
        ConfigurationError: Names every field that is wrong.
    """
    try:
        return Request.model_validate_json(orjson.dumps(tree))
    except ValidationError as error:
        raise ConfigurationError(f"this is not a valid request: {describe(error)}") from error


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [], {})}


def pairs(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Names and values of texts of the form `NAME=VALUE`.

    Raises:
        ConfigurationError: A text is not of that form.
    """
    found = []
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ConfigurationError(f"{option} {text!r} is no NAME=VALUE")
        found.append((name, value))
    return found


def _value(text: str) -> Any:
    """A file's content for `@FILE`, JSON where the text is JSON but no string, else the text."""
    if text.startswith("@"):
        return _read(Path(text[1:]))
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if isinstance(value, str) else value


def _schema(file: Path) -> Any:
    try:
        return orjson.loads(_read(file))
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"{str(file)!r} is not JSON: {error}") from error


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{str(file)!r} cannot be read: {error}") from error
