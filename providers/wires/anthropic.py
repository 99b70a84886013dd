"""The anthropic wire: the Messages API.

Source: the Anthropic API reference (messages, streaming, errors), version 2023-06-01.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from millrace.providers.entry import ProviderEntry
from millrace.providers.protocol import ModelRequest
from millrace.providers.wires.anthropic_reply import AnthropicReply
from millrace.providers.wires.content import (
    InlineImage,
    LinkedImage,
    arguments_of,
    drop_unset,
    image_of,
    json_instruction,
)
from millrace.providers.wires.turns import Turn, pair_tool_results
from millrace.providers.wires.wire import EncodedRequest, ReplyLimits
from millrace.schemas.message import ContentPart, Message, TextPart

_MAX_TOKENS = 4096
"""This wire demands a limit. Every model since Claude 3 takes this one; an entry's
`max_output_tokens`, or the request's own, goes before it."""

_TOOL_CHOICE = {"auto": "auto", "none": "none", "required": "any"}


class AnthropicWire:
    """Translates to and from the Messages API.

    JSON output is asked for in the system prompt, which every model understands; the validator
    checks it. `seed` has no form here and is left out: it is a wish by every wire's definition.
    """

    headers: Mapping[str, str] = {"anthropic-version": "2023-06-01"}
    embeddings = None

    def __init__(self, entry: ProviderEntry, *, limits: ReplyLimits) -> None:
        self._limits = limits
        self._max_tokens = {
            name: model.max_output_tokens or _MAX_TOKENS for name, model in entry.models.items()
        }
        # A base URL may be given with the version, as other wires have it, or without.
        versioned = urlsplit(str(entry.base_url)).path.rstrip("/").endswith("/v1")
        prefix = "" if versioned else "/v1"
        self._path = f"{prefix}/messages"
        self.check_path = f"{prefix}/models"

    def authorization(self, key: str) -> tuple[str, str]:
        """The wire's own header."""
        return "x-api-key", key

    def encode(self, request: ModelRequest) -> EncodedRequest:
        """Translate the request.

        Raises:
            RequestRefusedError: A part has no form in this wire.
        """
        parameters = request.parameters
        system = [m.text() for m in request.messages if m.role == "system"]
        instruction = json_instruction(request.output)
        if instruction is not None:
            system.append(instruction)
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": parameters.max_output_tokens
            or self._max_tokens.get(request.model, _MAX_TOKENS),
            "messages": _messages(request.messages),
            "stream": request.stream,
        }
        body |= drop_unset(
            {
                "system": "\n\n".join(text for text in system if text) or None,
                "temperature": parameters.temperature,
                "top_p": parameters.top_p,
                "stop_sequences": parameters.stop or None,
            }
        )
        if request.tools:
            body["tools"] = [
                drop_unset(
                    {
                        "name": tool.name,
                        "description": tool.description,
                        "input_schema": tool.parameters or {"type": "object"},
                    }
                )
                for tool in request.tools
            ]
            if parameters.tool_choice is not None:
                body["tool_choice"] = {"type": _TOOL_CHOICE[parameters.tool_choice]}
        return EncodedRequest(self._path, orjson.dumps(body))

    def reply(self, request: ModelRequest, headers: Mapping[str, str]) -> AnthropicReply:
        """A reader for the reply."""
        # A LiteLLM proxy knows the cost before its headers go out only when nothing is streamed.
        cost = None if request.stream else headers.get("x-litellm-response-cost")
        return AnthropicReply(limits=self._limits, proxy_cost=cost)


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = None
    for turn in pair_tool_results(messages):
        if turn.answers is not None:
            # The results of parallel calls must stand together in the one next user turn.
            if results is None:
                results = []
                written.append({"role": "user", "content": results})
            results.append(
                {
                    "type": "tool_result",
                    "tool_use_id": turn.answers.id,
                    "content": _content(turn.message),
                }
            )
        elif turn.message.role != "system":
            results = None
            written.append({"role": turn.message.role, "content": _turn(turn)})
    return written


def _turn(turn: Turn) -> str | list[dict[str, Any]]:
    content = _content(turn.message)
    if not turn.tool_calls:
        return content
    # Empty text blocks are refused.
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [
        *(block for block in blocks if block.get("text") != ""),
        *(
            {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call)}
            for call in turn.tool_calls
        ),
    ]


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [_part(part) for part in message.content]


def _part(part: ContentPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    match image_of(part):
        case InlineImage(media_type, data):
            source = {"type": "base64", "media_type": media_type, "data": data}
        case LinkedImage(url):
            source = {"type": "url", "url": url}
    return {"type": "image", "source": source}
