"""The ollama wire: `/api/chat` of an Ollama server.

Source: Ollama's API documentation (chat, usage).
"""

from collections.abc import Mapping
from typing import Any

import orjson

from millrace.providers.entry import ProviderEntry
from millrace.providers.protocol import ModelRequest
from millrace.providers.tokens import estimate_messages
from millrace.providers.wires.content import InlineImage, arguments_of, drop_unset, image_of
from millrace.providers.wires.ollama_embeddings import OllamaEmbeddings
from millrace.providers.wires.ollama_reply import OllamaReply
from millrace.providers.wires.turns import Turn, pair_tool_results
from millrace.providers.wires.wire import EncodedRequest, ReplyLimits
from millrace.schemas.errors import RequestRefusedError
from millrace.schemas.message import ImagePart

_PATH = "/api/chat"


class OllamaWire:
    """Translates to and from Ollama's own API.

    A model's `context_window` is sent as `num_ctx`: without it the server cuts long prompts
    down to its default window, and says nothing.
    """

    check_path = "/api/tags"
    headers: Mapping[str, str] = {}

    def __init__(self, entry: ProviderEntry, *, limits: ReplyLimits) -> None:
        self._limits = limits
        self._windows = {name: model.context_window for name, model in entry.models.items()}
        self._keep_alive = entry.keep_alive_seconds
        self.embeddings = OllamaEmbeddings(
            window=self._windows.get, keep_alive_seconds=entry.keep_alive_seconds
        )

    def authorization(self, key: str) -> tuple[str, str]:
        """A bearer token, as ollama.com and proxies in front of a server take it."""
        return "authorization", f"Bearer {key}"

    def encode(self, request: ModelRequest) -> EncodedRequest:
        """Translate the request.

        Raises:
            RequestRefusedError: A part has no form in this wire.
        """
        parameters, output = request.parameters, request.output
        if request.tools and parameters.tool_choice == "required":
            raise RequestRefusedError(
                "the ollama wire cannot demand a tool call: leave out tool_choice 'required', or "
                "route to another provider"
            )
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [_message(turn) for turn in pair_tool_results(request.messages)],
            "stream": request.stream,
        }
        options = drop_unset(
            {
                "num_predict": parameters.max_output_tokens,
                "num_ctx": self._windows.get(request.model),
                "temperature": parameters.temperature,
                "top_p": parameters.top_p,
                "stop": parameters.stop or None,
                "seed": parameters.seed,
            }
        )
        if options:
            body["options"] = options
        if self._keep_alive is not None:
            body["keep_alive"] = self._keep_alive
        if output.format == "json":
            body["format"] = "json" if output.json_schema is None else output.json_schema
        if request.tools and parameters.tool_choice != "none":
            body["tools"] = [
                {
                    "type": "function",
                    "function": drop_unset(
                        {
                            "name": tool.name,
                            "description": tool.description,
                            "parameters": tool.parameters or {"type": "object"},
                        }
                    ),
                }
                for tool in request.tools
            ]
        return EncodedRequest(_PATH, orjson.dumps(body))

    def reply(self, request: ModelRequest, headers: Mapping[str, str]) -> OllamaReply:  # noqa: ARG002 - the protocol's signature
        """A reader for the reply."""
        return OllamaReply(
            limits=self._limits,
            estimate_input=lambda: estimate_messages(request.messages, request.tools),
        )


def _message(turn: Turn) -> dict[str, Any]:
    message = turn.message
    written: dict[str, Any] = {"role": message.role, "content": message.text()}
    if not isinstance(message.content, str):
        images = [_image(part) for part in message.content if isinstance(part, ImagePart)]
        if images:
            written["images"] = images
    if turn.answers is not None:
        written["tool_name"] = turn.answers.name
    if turn.tool_calls:
        written["tool_calls"] = [
            {"function": {"name": call.name, "arguments": arguments_of(call)}}
            for call in turn.tool_calls
        ]
    return written


def _image(part: ImagePart) -> str:
    image = image_of(part)
    if isinstance(image, InlineImage):
        return image.data
    raise RequestRefusedError(
        "the ollama wire takes no image by URL: send the image as data, in base64"
    )
