"""The openai wire: chat completions, as OpenAI and the many servers compatible with it speak.

Source: the OpenAI API reference (chat completions), and replies recorded from 21 vendors.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from millrace.providers.entry import ProviderEntry
from millrace.providers.protocol import ModelRequest
from millrace.providers.wires.content import (
    InlineImage,
    LinkedImage,
    drop_unset,
    image_of,
    json_instruction,
)
from millrace.providers.wires.openai_embeddings import OpenAiEmbeddings
from millrace.providers.wires.openai_reply import OpenAiReply
from millrace.providers.wires.strict_schema import describes_object, is_strict
from millrace.providers.wires.turns import Turn, pair_tool_results
from millrace.providers.wires.wire import EncodedRequest, ReplyLimits
from millrace.schemas.message import ContentPart, Message, TextPart
from millrace.schemas.request import OutputSpec
from millrace.schemas.vocabulary import LOCAL_HARDWARE

_PATH = "/chat/completions"


class OpenAiWire:
    """Translates to and from chat completions."""

    check_path = "/models"
    headers: Mapping[str, str] = {}

    def __init__(self, entry: ProviderEntry, *, limits: ReplyLimits) -> None:
        self._limits = limits
        self.embeddings = OpenAiEmbeddings()
        # OpenAI's reasoning models refuse `max_tokens`; most compatible servers know only that.
        host = urlsplit(str(entry.base_url)).hostname or ""
        first_party = host == "api.openai.com" or host.endswith(".azure.com")
        self._max_tokens = "max_completion_tokens" if first_party else "max_tokens"
        self._first_party = first_party
        # Own servers constrain any schema. What is in the cloud may hand the call to OpenAI.
        self._any_schema = entry.hardware in LOCAL_HARDWARE

    def authorization(self, key: str) -> tuple[str, str]:
        """A bearer token."""
        return "authorization", f"Bearer {key}"

    def encode(self, request: ModelRequest) -> EncodedRequest:
        """Translate the request.

        Raises:
            RequestRefusedError: A part has no form in this wire.
        """
        parameters = request.parameters
        answer_format = self._response_format(request.output)
        body: dict[str, Any] = {
            "model": request.model,
            "messages": _messages(request, answer_format),
            "stream": request.stream,
        }
        if request.stream:
            body["stream_options"] = {"include_usage": True}
        body |= drop_unset(
            {
                self._max_tokens: parameters.max_output_tokens,
                "temperature": parameters.temperature,
                "top_p": parameters.top_p,
                "stop": parameters.stop or None,
                "seed": parameters.seed,
                "response_format": answer_format,
            }
        )
        if request.token_probabilities:
            body["logprobs"] = True
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": drop_unset(
                        {
                            "name": tool.name,
                            "description": tool.description,
                            "parameters": tool.parameters or None,
                        }
                    ),
                }
                for tool in request.tools
            ]
            if parameters.tool_choice is not None:
                body["tool_choice"] = parameters.tool_choice
        return EncodedRequest(_PATH, orjson.dumps(body))

    def reply(self, request: ModelRequest, headers: Mapping[str, str]) -> OpenAiReply:
        """A reader for the reply."""
        # A proxy cannot know the cost of a stream when it sends the stream's headers.
        cost = None if request.stream else headers.get("x-litellm-response-cost")
        return OpenAiReply(limits=self._limits, proxy_cost=cost)

    def _response_format(self, output: OutputSpec) -> dict[str, Any] | None:
        """How the answer's form is asked for; None where the prompt has to say it, or for text."""
        schema = output.json_schema
        if output.format != "json":
            return None
        if schema is None:
            return {"type": "json_object"}
        if not (self._any_schema or describes_object(schema)):
            return None
        described: dict[str, Any] = {"name": "answer", "schema": schema}
        # Strict mode constrains every token, and refuses schemas with optional fields, among
        # others. Those are a wish only; the validator checks the answer anyway.
        if self._first_party and is_strict(schema):
            described["strict"] = True
        return {"type": "json_schema", "json_schema": described}


def _messages(
    request: ModelRequest, answer_format: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    messages = [_message(turn) for turn in pair_tool_results(request.messages)]
    output = request.output
    if output.format == "json" and _must_be_told(request, answer_format):
        messages.insert(0, {"role": "system", "content": json_instruction(output)})
    return messages


def _must_be_told(request: ModelRequest, answer_format: Mapping[str, Any] | None) -> bool:
    """Whether the messages have to ask for JSON.

    OpenAI refuses `json_object` when the word JSON stands nowhere in them.
    """
    if answer_format is None:
        return True
    return answer_format["type"] == "json_object" and not any(
        "json" in message.text().lower() for message in request.messages
    )


def _message(turn: Turn) -> dict[str, Any]:
    message = turn.message
    written: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if turn.answers is not None:
        written["tool_call_id"] = turn.answers.id
    if turn.tool_calls:
        written["content"] = written["content"] or None
        written["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in turn.tool_calls
        ]
    return written


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [_part(part) for part in message.content]


def _part(part: ContentPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    match image_of(part):
        case InlineImage(media_type, data):
            url = f"data:{media_type};base64,{data}"
        case LinkedImage(url):
            pass
    return {"type": "image_url", "image_url": {"url": url}}
