"""The `openai` wire: chat completions."""

from collections.abc import Mapping, Sequence
from math import log
from typing import Any, Final

import orjson

from millrace.providers.simulator.call import Incoming, Role, SimulatedCall, ToolOffer, Turn
from millrace.providers.simulator.quota import Ruling, openai_headers
from millrace.providers.simulator.reply import Frames, Reply
from millrace.providers.simulator.tokens import count_tokens
from millrace.providers.simulator.wire import Caching, Lenient, decoded_stop, quoted, read_body
from millrace.schemas.errors import RequestRefusedError

_KNOWN: Final = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "metadata",
        "modalities",
        "moderation",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "temperature",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)
_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_FINISH: Final = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
}
_ERRORS: Final[Mapping[int, tuple[str, str | None]]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_OVERLOADED: Final = "The server had an error while processing your request. (simulated)"
_SERVER_ERROR: Final = ("server_error", None)


class _Message(Lenient):
    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _StreamOptions(Lenient):
    include_usage: bool = False


class _Body(Lenient):
    model: str
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    logprobs: bool | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None


class OpenAIWire:
    """Chat completions as OpenAI and the servers compatible with it send them.

    A stream carries usage only where `stream_options.include_usage` asks for it: in a chunk
    without choices before `[DONE]`.
    """

    name = "openai"
    counts_early = False
    stream_type = "text/event-stream; charset=utf-8"
    plain_type = "application/json"
    id_header: str | None = "x-request-id"
    broken_frame = b'data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":"br\n\n'
    caching: Caching = "by_itself"

    def __init__(self) -> None:
        self.error_frame = b"data: %s\n\n" % self.error(500, _OVERLOADED, retry_after=None)

    def read(self, incoming: Incoming) -> SimulatedCall:
        """Read a request for a chat completion."""
        body = read_body(_Body, incoming.body, known=_KNOWN)
        if not body.messages:
            raise RequestRefusedError("invalid request: messages is empty")
        if body.n not in (None, 1):
            raise RequestRefusedError(f"n is {body.n}; only one choice is simulated")
        if body.stream_options is not None and not body.stream:
            raise RequestRefusedError("stream_options is only allowed when stream is true")
        form = body.response_format or {}
        kind = form.get("type", "text")
        if kind not in ("text", "json_object", "json_schema"):
            raise RequestRefusedError(f"response_format.type is {kind!r}, which is unknown")
        schema = (form.get("json_schema") or {}).get("schema") if kind == "json_schema" else None
        stream = bool(body.stream)
        return SimulatedCall(
            instance=incoming.instance,
            model=body.model,
            stream=stream,
            turns=tuple(map(_turn, body.messages)),
            max_tokens=body.max_completion_tokens or body.max_tokens,
            stop=decoded_stop(body.stop),
            json_asked=kind != "text",
            json_schema=schema if isinstance(schema, Mapping) else None,
            tools=tuple(map(_offer, body.tools or ())),
            tool_choice=_choice(body.tool_choice),
            probabilities_asked=bool(body.logprobs),
            report_usage=not stream
            or (body.stream_options is not None and body.stream_options.include_usage),
            other_input_tokens=count_tokens(orjson.dumps(body.tools).decode()) if body.tools else 0,
        )

    def reply_id(self, sequence: int) -> str:
        """Like `chatcmpl-sim000000001`."""
        return f"chatcmpl-sim{sequence:09d}"

    def frames(self, reply: Reply) -> Frames:
        """Write chunks: the role first, then one a token, the finish, the usage, the end."""
        answer = reply.answer
        start = self._start(reply)
        usage = b',"usage":null}\n\n' if reply.report_usage else b"}\n\n"
        end = b'},"logprobs":null,"finish_reason":null}]' + usage
        if answer.tool is None:
            head = start + b'"role":"assistant","content":"","refusal":null' + end
            before, after = start + b'"content":', end
        else:
            head = (
                start
                + b'"role":"assistant","content":null,"tool_calls":[{"index":0,"id":'
                + quoted(f"call_sim{reply.sequence:09d}")
                + b',"type":"function","function":{"name":'
                + quoted(answer.tool)
                + b',"arguments":""}}]'
                + end
            )
            before = start + b'"tool_calls":[{"index":0,"function":{"arguments":'
            after = b"}}]" + end
        finish = quoted(_FINISH[answer.finish])
        tail = start + b'},"logprobs":null,"finish_reason":' + finish + b"}]" + usage
        if reply.report_usage:
            counts = orjson.dumps(_usage(reply))
            tail += self._opening(reply) + b'[],"usage":' + counts + b"}\n\n"
        if reply.probability is not None and answer.tool is None:
            tokens = [
                before
                + quoted(token)
                + b'},"logprobs":'
                + orjson.dumps(_logprobs((token,), reply.probability))
                + b',"finish_reason":null}]'
                + usage
                for token in answer.tokens
            ]
        else:
            tokens = [before + quoted(token) + after for token in answer.tokens]
        return Frames(
            head,
            tokens,
            tail + b"data: [DONE]\n\n",
        )

    def whole(self, reply: Reply) -> bytes:
        """Write a `chat.completion`."""
        answer = reply.answer
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text if answer.tool is None else None,
            "refusal": None,
            "annotations": [],
        }
        if answer.tool is not None:
            function = {"name": answer.tool, "arguments": answer.text}
            call = {"id": f"call_sim{reply.sequence:09d}", "type": "function", "function": function}
            message["tool_calls"] = [call]
        body: dict[str, Any] = {
            "id": reply.id,
            "object": "chat.completion",
            "created": int(reply.created),
            "model": reply.model,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": _logprobs(answer.tokens, reply.probability)
                    if reply.probability is not None and answer.tool is None
                    else None,
                    "finish_reason": _FINISH[answer.finish],
                }
            ],
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        }
        if reply.report_usage:
            body["usage"] = _usage(reply)
        return orjson.dumps(body)

    def error(self, status: int, message: str, *, retry_after: float | None) -> bytes:
        """An error object; on 429 the message says when to come again."""
        kind, code = _ERRORS.get(status, _SERVER_ERROR)
        if retry_after is not None:
            message = f"{message} Please try again in {retry_after:g}s."
        return orjson.dumps(
            {"error": {"message": message, "type": kind, "param": None, "code": code}}
        )

    def quota_headers(self, ruling: Ruling, *, now: float) -> dict[str, str]:  # noqa: ARG002
        """The `x-ratelimit-…` headers, with durations such as `1.5s`."""
        return openai_headers(ruling)

    def models(self, names: Sequence[str]) -> bytes:
        """A list of `model` objects."""
        data = [
            {"id": name, "object": "model", "created": 1735689600, "owned_by": "millrace-simulator"}
            for name in names
        ]
        return orjson.dumps({"object": "list", "data": data})

    def _opening(self, reply: Reply) -> bytes:
        return (
            b'data: {"id":"'
            + reply.id.encode()
            + b'","object":"chat.completion.chunk","created":%d,"model":' % reply.created
            + quoted(reply.model)
            + b',"service_tier":"default","system_fingerprint":"fp_simulated","choices":'
        )

    def _start(self, reply: Reply) -> bytes:
        return self._opening(reply) + b'[{"index":0,"delta":{'


def _turn(message: _Message) -> Turn:
    role = _ROLES.get(message.role)
    if role is None:
        raise RequestRefusedError(f"messages.role is {message.role!r}, which is unknown")
    content = message.content
    if isinstance(content, str):
        return Turn(role, content)
    text, images = [], 0
    for part in content or ():
        if part.get("type") == "text":
            text.append(str(part.get("text", "")))
        elif part.get("type") == "image_url":
            images += 1
        else:
            raise RequestRefusedError(f"content.type is {part.get('type')!r}, which is unknown")
    for call in message.tool_calls or ():
        function = call.get("function") or {}
        text.append(f"{function.get('name', '')}{function.get('arguments', '')}")
    return Turn(role, "".join(text), images)


def _offer(tool: Mapping[str, Any]) -> ToolOffer:
    function = tool.get("function") or {}
    if tool.get("type") != "function" or not isinstance(function.get("name"), str):
        raise RequestRefusedError("tools holds something that is not a function with a name")
    return ToolOffer(function["name"], function.get("parameters") or {"type": "object"})


def _choice(choice: str | Mapping[str, Any] | None) -> Any:
    if isinstance(choice, Mapping):
        return "required"
    if choice not in (None, "auto", "none", "required"):
        raise RequestRefusedError(f"tool_choice is {choice!r}, which is unknown")
    return choice or "auto"


def _logprobs(tokens: Sequence[str], probability: float) -> dict[str, Any]:
    told = log(probability)
    return {
        "content": [
            {
                "token": token,
                "logprob": told,
                "bytes": list(token.encode("utf-8", "surrogatepass")),
                "top_logprobs": [],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
