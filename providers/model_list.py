"""The list of models that a server offers, as each wire's own page has it.

Source: `GET /models` of OpenAI and of Anthropic (`data[].id`, more pages by `has_more`), of Gemini
(`models[].name`, more by `nextPageToken`), `GET /api/tags` of Ollama (`models[].name`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

_LATEST = ":latest"


def read_model_list(body: bytes) -> frozenset[str] | None:
    """The names that a page lists; None where it is no list of models, or not a whole one."""
    try:
        page = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(page, list):
        page = {"data": page}  # Together AI has no envelope.
    if not isinstance(page, Mapping) or page.get("has_more") or page.get("nextPageToken"):
        return None
    items = page.get("data", page.get("models"))
    if not isinstance(items, list):
        return None
    names = {_name(item) for item in items}
    return frozenset(name for name in names if name is not None)


def not_listed(models: Iterable[str], listed: frozenset[str]) -> tuple[str, ...]:
    """Which of the models are not in the list; Ollama's `name` is its `name:latest`."""
    return tuple(
        model for model in models if model not in listed and f"{model}{_LATEST}" not in listed
    )


def _name(item: Any) -> str | None:
    name = item.get("id", item.get("name")) if isinstance(item, Mapping) else None
    return name.removeprefix("models/") if isinstance(name, str) else None
