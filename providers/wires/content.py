"""Parts of a request that several wires write in their own way."""

from dataclasses import dataclass
from typing import Any

import orjson

from millrace.schemas.errors import RequestRefusedError
from millrace.schemas.message import ImagePart, ToolCall
from millrace.schemas.request import OutputSpec


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An image as base64."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """An image somewhere on the web."""

    url: str
    media_type: str | None


def image_of(part: ImagePart) -> InlineImage | LinkedImage:
    """Where the image is; a `data:` URL is inline.

    Raises:
        RequestRefusedError: A `data:` URL is not base64 with a media type.
    """
    # The schema sees to it that there is either a URL, or data with its type.
    if part.data is not None and part.media_type is not None:
        return InlineImage(part.media_type, part.data)
    url = part.url or ""
    if not url.startswith("data:"):
        return LinkedImage(url, part.media_type)
    head, _, data = url.removeprefix("data:").partition(",")
    media_type, _, encoding = head.partition(";")
    if not (media_type and data and encoding == "base64"):
        raise RequestRefusedError("a data: URL of an image must be data:<type>;base64,<data>")
    return InlineImage(media_type, data)


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """A tool call's arguments as the object that some wires want.

    Raises:
        RequestRefusedError: They are not a JSON object.
    """
    try:
        arguments = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise RequestRefusedError(
            f"the arguments of tool call {call.name!r} are not a JSON object, which this "
            "provider's wire API needs"
        )
    return arguments


def json_instruction(output: OutputSpec) -> str | None:
    """The sentence that asks for JSON where the wire has no setting for it; None for text."""
    if output.format != "json":
        return None
    if output.json_schema is None:
        return "Answer with a single JSON value and nothing else."
    schema = orjson.dumps(output.json_schema).decode()
    return (
        "Answer with a single JSON value that is valid under this JSON Schema, "
        f"and with nothing else:\n{schema}"
    )


def drop_unset(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given."""
    return {name: value for name, value in settings.items() if value is not None}
