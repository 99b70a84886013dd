"""The `ollama` wire: /api/chat."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from millrace.providers.simulator.call import Incoming, Role, SimulatedCall, ToolOffer, Turn
from millrace.providers.simulator.quota import Ruling
from millrace.providers.simulator.reply import Frames, Reply
from millrace.providers.simulator.tokens import count_tokens
from millrace.providers.simulator.wire import (
    Caching,
    Lenient,
    as_object,
    decoded_stop,
    quoted,
    read_body,
)
from millrace.schemas.errors import RequestRefusedError

_KNOWN: Final = frozenset({"keep_alive", "think", "template", "logprobs", "top_logprobs"})
_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_FINISH: Final = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "stop",
}
_OVERLOADED: Final = "an error was encountered while running the model (simulated)"
_NANOSECONDS: Final = 1_000_000_000
LOADED_NANOSECONDS: Final = 1_600_000
"""How long it takes to load a model that is loaded already."""


class _Message(Lenient):
    role: str
    content: str = ""
    images: list[str] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Options(Lenient):
    num_predict: int | None = None
    stop: str | list[str] | None = None


class _Body(Lenient):
    model: str
    messages: tuple[_Message, ...] = ()
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: _Options | None = None
    tools: list[dict[str, Any]] | None = None


class OllamaWire:
    """Chat as Ollama sends it: a JSON line a token, counts and durations in the last one.

    It streams unless told not to.
    """

    name = "ollama"
    counts_early = False
    stream_type = "application/x-ndjson"
    plain_type = "application/json; charset=utf-8"
    id_header: str | None = None
    broken_frame = b'{"message":{"role":"assistant","content":"brok\n'
    caching: Caching = "never"

    def __init__(self) -> None:
        self.error_frame = self.error(500, _OVERLOADED, retry_after=None) + b"\n"

    def read(self, incoming: Incoming) -> SimulatedCall:
        """Read a request to chat."""
        body = read_body(_Body, incoming.body, known=_KNOWN)
        if not body.messages:
            raise RequestRefusedError("messages is empty; loading a model is not simulated")
        form, options = body.format or "", body.options or _Options()
        if isinstance(form, str) and form not in ("", "json"):
            raise RequestRefusedError(f'format is {form!r}; use "json" or a JSON schema')
        limit = options.num_predict
        return SimulatedCall(
            instance=incoming.instance,
            model=body.model,
            stream=body.stream is not False,
            turns=tuple(map(_turn, body.messages)),
            max_tokens=limit if limit is not None and limit > 0 else None,
            stop=decoded_stop(options.stop),
            json_asked=bool(form),
            json_schema=form if isinstance(form, dict) else None,
            tools=tuple(map(_offer, body.tools or ())),
            other_input_tokens=count_tokens(orjson.dumps(body.tools).decode()) if body.tools else 0,
        )

    def reply_id(self, sequence: int) -> str:
        """For the ledger only: this wire's replies carry no id."""
        return f"ollama-sim{sequence:09d}"

    def frames(self, reply: Reply) -> Frames:
        """Write a line a token, and the last one."""
        answer = reply.answer
        start = b'{"model":' + quoted(reply.model) + b',"created_at":"'
        before = b'","message":{"role":"assistant","content":'
        if answer.tool is not None:
            # A tool call comes in one piece.
            call = orjson.dumps([_tool_call(reply)])
            line = start + _moment(reply, 1) + before + b'"","tool_calls":' + call + _GOES_ON
            tokens = [b""] * (len(answer.tokens) - 1) + [line]
        elif reply.token_seconds:
            tokens = [
                start + _moment(reply, made) + before + quoted(token) + _GOES_ON
                for made, token in enumerate(answer.tokens)
            ]
        else:
            opening = start + _moment(reply, 0) + before
            tokens = [opening + quoted(token) + _GOES_ON for token in answer.tokens]
        return Frames(b"", tokens, self._last(reply, {"role": "assistant", "content": ""}) + b"\n")

    def whole(self, reply: Reply) -> bytes:
        """Write one object."""
        answer = reply.answer
        message: dict[str, Any] = {"role": "assistant", "content": answer.text}
        if answer.tool is not None:
            message = {"role": "assistant", "content": "", "tool_calls": [_tool_call(reply)]}
        return self._last(reply, message)

    def error(self, status: int, message: str, *, retry_after: float | None) -> bytes:  # noqa: ARG002 -- as the wires' protocol has it
        """An error that is a plain string."""
        return orjson.dumps({"error": message})

    def quota_headers(self, ruling: Ruling, *, now: float) -> dict[str, str]:  # noqa: ARG002
        """None: this API does not say."""
        return {}

    def models(self, names: Sequence[str]) -> bytes:
        """The models that are there, as `/api/tags` lists them."""
        data = [
            {
                "name": name,
                "model": name,
                "modified_at": "2025-01-01T00:00:00Z",
                "size": 4_700_000_000,
                "digest": f"{index:064x}",
                "details": {
                    "parent_model": "",
                    "format": "gguf",
                    "family": "simulated",
                    "families": ["simulated"],
                    "parameter_size": "8.0B",
                    "quantization_level": "Q4_K_M",
                },
            }
            for index, name in enumerate(names)
        ]
        return orjson.dumps({"models": data})

    def _last(self, reply: Reply, message: Mapping[str, Any]) -> bytes:
        prompt = round(reply.first_token_seconds * _NANOSECONDS)
        answer = round(reply.output_tokens * reply.token_seconds * _NANOSECONDS)
        body: dict[str, Any] = {
            "model": reply.model,
            "created_at": _moment(reply, reply.output_tokens).decode(),
            "message": message,
            "done_reason": _FINISH[reply.answer.finish],
            "done": True,
            "total_duration": LOADED_NANOSECONDS + prompt + answer,
            "load_duration": LOADED_NANOSECONDS,
        }
        if reply.report_usage:
            body["prompt_eval_count"] = reply.input_tokens
        body["prompt_eval_duration"] = prompt
        if reply.report_usage:
            body["eval_count"] = reply.output_tokens
        body["eval_duration"] = answer
        return orjson.dumps(body)


_GOES_ON: Final = b'},"done":false}\n'


def _moment(reply: Reply, made: int) -> bytes:
    seconds = reply.created + reply.first_token_seconds + made * reply.token_seconds
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()


def _tool_call(reply: Reply) -> dict[str, Any]:
    return {"function": {"name": reply.answer.tool, "arguments": as_object(reply.answer.text)}}


def _turn(message: _Message) -> Turn:
    role = _ROLES.get(message.role)
    if role is None:
        raise RequestRefusedError(f"role is {message.role!r}, which is unknown")
    text = message.content
    for call in message.tool_calls or ():
        function = call.get("function") or {}
        text += f"{function.get('name', '')}{orjson.dumps(function.get('arguments')).decode()}"
    return Turn(role, text, len(message.images or ()))


def _offer(tool: Mapping[str, Any]) -> ToolOffer:
    function = tool.get("function") or {}
    if not isinstance(function.get("name"), str):
        raise RequestRefusedError("tools holds a function without a name")
    return ToolOffer(function["name"], function.get("parameters") or {"type": "object"})
