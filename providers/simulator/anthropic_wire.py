"""The `anthropic` wire: messages."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from millrace.providers.simulator.call import Incoming, Role, SimulatedCall, ToolOffer, Turn
from millrace.providers.simulator.quota import Ruling, anthropic_headers
from millrace.providers.simulator.reply import Frames, Reply
from millrace.providers.simulator.tokens import count_tokens
from millrace.providers.simulator.wire import Caching, Lenient, as_object, quoted, read_body
from millrace.schemas.errors import RequestRefusedError

_KNOWN: Final = frozenset(
    {
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "mcp_servers",
        "metadata",
        "service_tier",
        "speed",
        "temperature",
        "thinking",
        "top_k",
        "top_p",
    }
)
_FINISH: Final = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}
_ERRORS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
_BLOCK_STOP: Final = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
)
_TEXT: Final = _DELTA + b'{"type":"text_delta","text":'
_ARGUMENTS: Final = _DELTA + b'{"type":"input_json_delta","partial_json":'


class _Message(Lenient):
    role: str
    content: str | list[dict[str, Any]]


class _Body(Lenient):
    model: str
    messages: list[_Message]
    max_tokens: int
    system: str | list[dict[str, Any]] | None = None
    stream: bool = False
    stop_sequences: tuple[str, ...] = ()
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    output_format: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None


class AnthropicWire:
    """Messages as Anthropic sends them.

    The input is counted in `message_start` already, without what was cached; the output's
    count in `message_delta` is the final one.
    """

    name = "anthropic"
    counts_early = True
    stream_type = "text/event-stream; charset=utf-8"
    plain_type = "application/json"
    id_header: str | None = "request-id"
    broken_frame = _TEXT + b'"brok\n\n'
    caching: Caching = "when_asked"

    def __init__(self) -> None:
        error = self.error(529, "Overloaded", retry_after=None)
        self.error_frame = b"event: error\ndata: %s\n\n" % error

    def read(self, incoming: Incoming) -> SimulatedCall:
        """Read a request for a message."""
        if "anthropic-version" not in incoming.headers:
            raise RequestRefusedError("anthropic-version: header is required")
        body = read_body(_Body, incoming.body, known=_KNOWN)
        if not body.messages:
            raise RequestRefusedError("messages: at least one message is required")
        if body.max_tokens < 1:
            raise RequestRefusedError(f"max_tokens: {body.max_tokens} is less than 1")
        turns: list[Turn] = []
        if body.system is not None:
            turns.append(_turn("system", body.system))
        turns.extend(map(_message_turn, body.messages))
        form = body.output_format or (body.output_config or {}).get("format") or {}
        schema = form.get("schema")
        return SimulatedCall(
            instance=incoming.instance,
            model=body.model,
            stream=body.stream,
            turns=tuple(turns),
            max_tokens=body.max_tokens,
            stop=body.stop_sequences,
            json_asked=form.get("type") == "json_schema",
            json_schema=schema if isinstance(schema, Mapping) else None,
            tools=tuple(map(_offer, body.tools or ())),
            tool_choice=_choice(body.tool_choice),
            cache_asked=b'"cache_control"' in incoming.body,
            other_input_tokens=count_tokens(orjson.dumps(body.tools).decode()) if body.tools else 0,
        )

    def reply_id(self, sequence: int) -> str:
        """Like `msg_sim000000001`."""
        return f"msg_sim{sequence:09d}"

    def frames(self, reply: Reply) -> Frames:
        """Write the events from `message_start` to `message_stop`."""
        answer = reply.answer
        start = {**self._message(reply), "content": [], "stop_reason": None, "stop_sequence": None}
        if reply.report_usage:
            start["usage"] = {**_input_usage(reply), "output_tokens": 1, "service_tier": "standard"}
        head = _event("message_start", {"message": start})
        tail = b""
        if answer.tokens or answer.tool:
            block = _tool_use(reply, {}) if answer.tool else {"type": "text", "text": ""}
            head += _event("content_block_start", {"index": 0, "content_block": block})
            tail = _BLOCK_STOP
        head += _PING
        finish: dict[str, Any] = {
            "delta": {
                "stop_reason": _FINISH[answer.finish],
                "stop_sequence": answer.stop_sequence,
            }
        }
        if reply.report_usage:
            finish["usage"] = {**_input_usage(reply), "output_tokens": reply.output_tokens}
        tail += _event("message_delta", finish) + _STOP
        before = _ARGUMENTS if answer.tool else _TEXT
        return Frames(head, [before + quoted(token) + b"}}\n\n" for token in answer.tokens], tail)

    def whole(self, reply: Reply) -> bytes:
        """Write a `message`."""
        answer = reply.answer
        content: list[dict[str, Any]] = []
        if answer.tool is not None:
            content.append(_tool_use(reply, as_object(answer.text)))
        elif answer.tokens:
            content.append({"type": "text", "text": answer.text})
        body = {
            **self._message(reply),
            "content": content,
            "stop_reason": _FINISH[answer.finish],
            "stop_sequence": answer.stop_sequence,
        }
        if reply.report_usage:
            body["usage"] = {
                **_input_usage(reply),
                "output_tokens": reply.output_tokens,
                "service_tier": "standard",
            }
        return orjson.dumps(body)

    def error(self, status: int, message: str, *, retry_after: float | None) -> bytes:  # noqa: ARG002 -- as the wires' protocol has it
        """An error object; when to come again stands in the header only."""
        kind = _ERRORS.get(status, "api_error")
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})

    def quota_headers(self, ruling: Ruling, *, now: float) -> dict[str, str]:
        """The `anthropic-ratelimit-…` headers, with moments."""
        return anthropic_headers(ruling, now=now)

    def models(self, names: Sequence[str]) -> bytes:
        """A page of `model` objects."""
        data = [
            {
                "type": "model",
                "id": name,
                "display_name": f"{name} (simulated)",
                "created_at": "2025-01-01T00:00:00Z",
            }
            for name in names
        ]
        first, last = (names[0], names[-1]) if names else (None, None)
        return orjson.dumps({"data": data, "has_more": False, "first_id": first, "last_id": last})

    def _message(self, reply: Reply) -> dict[str, Any]:
        return {"id": reply.id, "type": "message", "role": "assistant", "model": reply.model}


def _event(name: str, fields: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))


def _tool_use(reply: Reply, arguments: Any) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": f"toolu_sim{reply.sequence:09d}",
        "name": reply.answer.tool,
        "input": arguments,
    }


def _input_usage(reply: Reply) -> dict[str, Any]:
    cached, written = reply.cached_tokens, reply.cache_write_tokens
    return {
        "input_tokens": reply.input_tokens - cached - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written,
            "ephemeral_1h_input_tokens": 0,
        },
    }


def _message_turn(message: _Message) -> Turn:
    if message.role not in ("user", "assistant"):
        raise RequestRefusedError(f"messages.role: {message.role!r} is neither user nor assistant")
    role: Role = "user" if message.role == "user" else "assistant"
    content = message.content
    if not isinstance(content, str) and any(part.get("type") == "tool_result" for part in content):
        role = "tool"
    return _turn(role, content)


def _turn(role: Role, content: str | Sequence[Mapping[str, Any]]) -> Turn:
    if isinstance(content, str):
        return Turn(role, content)
    text, images = [], 0
    for part in content:
        kind = part.get("type")
        if kind == "text":
            text.append(str(part.get("text", "")))
        elif kind == "image":
            images += 1
        elif kind == "tool_use":
            text.append(f"{part.get('name', '')}{orjson.dumps(part.get('input')).decode()}")
        elif kind == "tool_result":
            inner = part.get("content") or ""
            text.append(_turn(role, inner).text)
        else:
            raise RequestRefusedError(f"messages.content.type: {kind!r} is unknown")
    return Turn(role, "".join(text), images)


def _offer(tool: Mapping[str, Any]) -> ToolOffer:
    name, schema = tool.get("name"), tool.get("input_schema")
    if not isinstance(name, str) or not isinstance(schema, Mapping):
        raise RequestRefusedError("tools: a name and an input_schema are required")
    return ToolOffer(name, schema)


def _choice(choice: Mapping[str, Any] | None) -> Any:
    kind = (choice or {}).get("type", "auto")
    if kind not in ("auto", "none", "any", "tool"):
        raise RequestRefusedError(f"tool_choice.type: {kind!r} is unknown")
    return "required" if kind in ("any", "tool") else kind
