"""The gemini wire: `generateContent` of Google's Generative Language API.

Source: the Gemini API reference (generateContent, function calling, thought signatures).
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from millrace.providers.entry import ProviderEntry
from millrace.providers.protocol import ModelRequest
from millrace.providers.wires.content import (
    InlineImage,
    LinkedImage,
    arguments_of,
    drop_unset,
    image_of,
)
from millrace.providers.wires.gemini_embeddings import GeminiEmbeddings
from millrace.providers.wires.gemini_reply import GeminiReply
from millrace.providers.wires.turns import Turn, pair_tool_results
from millrace.providers.wires.wire import EncodedRequest, ReplyLimits
from millrace.schemas.message import ContentPart, Message, TextPart, ToolCall

_VERSION = re.compile(r"/v\d+[a-z0-9]*(?:/|$)")
_GENERATION = re.compile(r"gemini-(\d+)")
_SIGNED_SINCE = 3
_NO_SIGNATURE = "skip_thought_signature_validator"
"""What Google documents for calls whose signature is not at hand; Gemini 3 demands one."""

_TOOL_MODE = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


class GeminiWire:
    """Translates to and from `generateContent` and `streamGenerateContent`."""

    headers: Mapping[str, str] = {}

    def __init__(self, entry: ProviderEntry, *, limits: ReplyLimits) -> None:
        self._limits = limits
        # A base URL may be given with the API's version or without.
        versioned = _VERSION.search(urlsplit(str(entry.base_url)).path)
        self._prefix = "" if versioned else "/v1beta"
        self.check_path = f"{self._prefix}/models"
        self.embeddings = GeminiEmbeddings(prefix=self._prefix)

    def authorization(self, key: str) -> tuple[str, str]:
        """The wire's own header; never the URL, which ends up in logs."""
        return "x-goog-api-key", key

    def encode(self, request: ModelRequest) -> EncodedRequest:
        """Translate the request.

        Raises:
            RequestRefusedError: A part has no form in this wire.
        """
        system = "\n\n".join(m.text() for m in request.messages if m.role == "system")
        body: dict[str, Any] = {"contents": _contents(request)}
        if system:
            body["systemInstruction"] = {"parts": [{"text": system}]}
        if config := _generation_config(request):
            body["generationConfig"] = config
        if request.tools:
            body["tools"] = [
                {
                    "functionDeclarations": [
                        drop_unset(
                            {
                                "name": tool.name,
                                "description": tool.description,
                                "parametersJsonSchema": tool.parameters or None,
                            }
                        )
                        for tool in request.tools
                    ]
                }
            ]
            if request.parameters.tool_choice is not None:
                mode = _TOOL_MODE[request.parameters.tool_choice]
                body["toolConfig"] = {"functionCallingConfig": {"mode": mode}}
        return EncodedRequest(self._path(request), orjson.dumps(body))

    def reply(self, request: ModelRequest, headers: Mapping[str, str]) -> GeminiReply:  # noqa: ARG002 - the protocol's signature
        """A reader for the reply."""
        return GeminiReply(limits=self._limits)

    def _path(self, request: ModelRequest) -> str:
        model = quote(request.model, safe="/")
        resource = model if "/" in model else f"models/{model}"
        method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return f"{self._prefix}/{resource}:{method}"


def _contents(request: ModelRequest) -> list[dict[str, Any]]:
    generation = _GENERATION.search(request.model)
    signed = generation is not None and int(generation[1]) >= _SIGNED_SINCE
    contents: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = None
    for turn in pair_tool_results(request.messages):
        if turn.answers is not None:
            # The results of parallel calls belong into one turn.
            if results is None:
                results = []
                contents.append({"role": "user", "parts": results})
            results.append(_result(turn.answers, turn.message))
        elif turn.message.role != "system":
            results = None
            role = "model" if turn.message.role == "assistant" else "user"
            contents.append({"role": role, "parts": _parts(turn, signed=signed)})
    return contents


def _parts(turn: Turn, *, signed: bool) -> list[dict[str, Any]]:
    content = turn.message.content
    if not isinstance(content, str):
        parts = [_part(part) for part in content]
    elif content or not turn.tool_calls:
        parts = [{"text": content}]
    else:
        parts = []
    for call in turn.tool_calls:
        part: dict[str, Any] = {
            "functionCall": {"id": call.id, "name": call.name, "args": arguments_of(call)}
        }
        signature = call.signature or (_NO_SIGNATURE if signed else None)
        if signature is not None:
            part["thoughtSignature"] = signature
        parts.append(part)
    return parts


def _result(call: ToolCall, message: Message) -> dict[str, Any]:
    text = message.text()
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    response = value if isinstance(value, dict) else {"result": value}
    return {"functionResponse": {"id": call.id, "name": call.name, "response": response}}


def _part(part: ContentPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"text": part.text}
    match image_of(part):
        case InlineImage(media_type, data):
            return {"inlineData": {"mimeType": media_type, "data": data}}
        case LinkedImage(url, media_type):
            return {"fileData": drop_unset({"fileUri": url, "mimeType": media_type})}


def _generation_config(request: ModelRequest) -> dict[str, Any]:
    parameters, output = request.parameters, request.output
    return drop_unset(
        {
            "maxOutputTokens": parameters.max_output_tokens,
            "temperature": parameters.temperature,
            "topP": parameters.top_p,
            "stopSequences": parameters.stop or None,
            "seed": parameters.seed,
            "responseMimeType": "application/json" if output.format == "json" else None,
            "responseJsonSchema": output.json_schema,
        }
    )
