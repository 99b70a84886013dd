"""The `gemini` wire: generateContent and streamGenerateContent."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from millrace.providers.simulator.call import Incoming, Role, SimulatedCall, ToolOffer, Turn
from millrace.providers.simulator.quota import Ruling
from millrace.providers.simulator.reply import Frames, Reply
from millrace.providers.simulator.tokens import count_tokens
from millrace.providers.simulator.wire import Caching, Lenient, as_object, quoted, read_body
from millrace.schemas.errors import RequestRefusedError

_KNOWN: Final = frozenset({"safetySettings", "cachedContent", "labels", "model", "serviceTier"})
_OVERLOADED: Final = "The model is overloaded. Please try again later. (simulated)"
_STREAM: Final = "streamGenerateContent"
_FINISH: Final = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
}
_STATUSES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class _Camel(Lenient):
    # The API takes both spellings of a field.
    model_config = ConfigDict(
        frozen=True, extra="allow", alias_generator=to_camel, validate_by_name=True
    )


class _Content(_Camel):
    parts: list[dict[str, Any]]
    role: str | None = None


class _GenerationConfig(_Camel):
    max_output_tokens: int | None = None
    stop_sequences: tuple[str, ...] = ()
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None


class _Body(_Camel):
    contents: list[_Content]
    system_instruction: _Content | None = None
    generation_config: _GenerationConfig | None = None
    tools: list[dict[str, Any]] | None = None
    tool_config: dict[str, Any] | None = None


class GeminiWire:
    """Content generation as Google sends it: each frame a whole response, no end marker.

    `promptTokenCount` includes what was cached; counts grow from frame to frame.
    """

    name = "gemini"
    counts_early = True
    stream_type = "text/event-stream"
    plain_type = "application/json; charset=UTF-8"
    id_header: str | None = None
    broken_frame = b'data: {"candidates": [{"content": {"parts": [{"text": "brok\r\n\r\n'
    caching: Caching = "by_itself"

    def __init__(self) -> None:
        self.error_frame = b"data: %s\r\n\r\n" % self.error(503, _OVERLOADED, retry_after=None)

    def read(self, incoming: Incoming) -> SimulatedCall:
        """Read a request to generate content."""
        stream = incoming.verb == _STREAM
        if incoming.verb not in (_STREAM, "generateContent"):
            raise RequestRefusedError(f"the method {incoming.verb!r} is not simulated")
        if stream and "alt=sse" not in incoming.query.split("&"):
            raise RequestRefusedError("a stream is simulated with ?alt=sse only")
        body = read_body(_Body, incoming.body, known=_KNOWN)
        if not body.contents:
            raise RequestRefusedError("contents is not specified")
        turns = [_turn(content) for content in body.contents]
        if body.system_instruction is not None:
            turns.insert(0, Turn("system", _turn(body.system_instruction).text))
        config = body.generation_config or _GenerationConfig()
        tools = [tool for group in body.tools or () for tool in _declarations(group)]
        return SimulatedCall(
            instance=incoming.instance,
            model=incoming.model,
            stream=stream,
            turns=tuple(turns),
            max_tokens=config.max_output_tokens,
            stop=config.stop_sequences,
            json_asked=config.response_mime_type == "application/json",
            json_schema=config.response_json_schema or config.response_schema,
            tools=tuple(map(_offer, tools)),
            tool_choice=_choice(body.tool_config),
            other_input_tokens=count_tokens(orjson.dumps(tools).decode()) if tools else 0,
        )

    def reply_id(self, sequence: int) -> str:
        """Like `sim000000001`."""
        return f"sim{sequence:09d}"

    def frames(self, reply: Reply) -> Frames:
        """Write a frame a token, the counts growing, and a last one with the reason to end."""
        answer = reply.answer
        if answer.tool is not None:
            # A function call comes in one piece.
            frame = self._frame(reply, len(answer.tokens), _function_call(reply), None)
            tokens = [b""] * (len(answer.tokens) - 1) + [frame]
        else:
            after = self._after(reply, None)
            before = b'data: {"candidates": [{"content": {"parts": [{"text": '
            tokens = [
                before + quoted(token) + after[0] + _counts(reply, made) + after[1]
                for made, token in enumerate(answer.tokens, 1)
            ]
        last = self._frame(reply, len(answer.tokens), b'{"text": ""', _FINISH[answer.finish])
        return Frames(b"", tokens, last)

    def whole(self, reply: Reply) -> bytes:
        """Write a response."""
        answer = reply.answer
        part: dict[str, Any] = {"text": answer.text}
        if answer.tool is not None:
            part = {"functionCall": {"name": answer.tool, "args": as_object(answer.text)}}
        content = {"parts": [part], "role": "model"} if answer.tokens else {"role": "model"}
        body: dict[str, Any] = {
            "candidates": [
                {"content": content, "finishReason": _FINISH[answer.finish], "index": 0}
            ],
            "modelVersion": reply.model,
            "responseId": reply.id,
        }
        if reply.report_usage:
            body["usageMetadata"] = _usage(reply, reply.output_tokens)
        return orjson.dumps(body)

    def error(self, status: int, message: str, *, retry_after: float | None) -> bytes:
        """An error object; `RetryInfo` says when to come again."""
        error: dict[str, Any] = {
            "code": status,
            "message": message,
            "status": _STATUSES.get(status, "INTERNAL" if status >= 500 else "UNKNOWN"),  # noqa: PLR2004 -- HTTP's classes
        }
        if retry_after is not None:
            error["message"] = f"{message} Please retry in {retry_after:g}s."
            error["details"] = [
                {
                    "@type": "type.googleapis.com/google.rpc.RetryInfo",
                    "retryDelay": f"{retry_after:g}s",
                }
            ]
        return orjson.dumps({"error": error})

    def quota_headers(self, ruling: Ruling, *, now: float) -> dict[str, str]:  # noqa: ARG002
        """None: this API does not say."""
        return {}

    def models(self, names: Sequence[str]) -> bytes:
        """A list of models."""
        data = [
            {
                "name": f"models/{name}",
                "version": "001",
                "displayName": f"{name} (simulated)",
                "inputTokenLimit": 1048576,
                "outputTokenLimit": 65536,
                "supportedGenerationMethods": ["generateContent", "countTokens"],
            }
            for name in names
        ]
        return orjson.dumps({"models": data})

    def _frame(self, reply: Reply, made: int, part: bytes, finish: str | None) -> bytes:
        after = self._after(reply, finish)
        counts = _counts(reply, made)
        return (
            b'data: {"candidates": [{"content": {"parts": [' + part + after[0] + counts + after[1]
        )

    def _after(self, reply: Reply, finish: str | None) -> tuple[bytes, bytes]:
        reason = b'"finishReason": "%s",' % finish.encode() if finish is not None else b""
        return (
            b'}],"role": "model"},' + reason + b'"index": 0}],',
            b'"modelVersion": %s,"responseId": "%s"}\r\n\r\n'
            % (quoted(reply.model), reply.id.encode()),
        )


def _counts(reply: Reply, made: int) -> bytes:
    if not reply.report_usage:
        return b""
    cached = b'"cachedContentTokenCount": %d,' % reply.cached_tokens if reply.cached_tokens else b""
    return (
        b'"usageMetadata": {"promptTokenCount": %d,"candidatesTokenCount": %d,'
        b'"totalTokenCount": %d,%b"promptTokensDetails": [{"modality": "TEXT","tokenCount": %d}]},'
        % (reply.input_tokens, made, reply.input_tokens + made, cached, reply.input_tokens)
    )


def _usage(reply: Reply, made: int) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "promptTokenCount": reply.input_tokens,
        "candidatesTokenCount": made,
        "totalTokenCount": reply.input_tokens + made,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": reply.input_tokens}],
    }
    if reply.cached_tokens:
        usage["cachedContentTokenCount"] = reply.cached_tokens
    return usage


def _function_call(reply: Reply) -> bytes:
    arguments = orjson.dumps(as_object(reply.answer.text))
    return b'{"functionCall": {"name": %s,"args": %s}' % (
        quoted(reply.answer.tool or ""),
        arguments,
    )


def _turn(content: _Content) -> Turn:
    if content.role not in (None, "user", "model", "function", "system"):
        raise RequestRefusedError(f"contents.role is {content.role!r}; use user or model")
    role: Role = "assistant" if content.role == "model" else "user"
    text, images = [], 0
    for part in content.parts:
        if "text" in part:
            text.append(str(part["text"]))
        elif "inlineData" in part or "inline_data" in part or "fileData" in part:
            images += 1
        elif "functionCall" in part:
            call = part["functionCall"]
            text.append(f"{call.get('name', '')}{orjson.dumps(call.get('args')).decode()}")
        elif "functionResponse" in part:
            role = "tool"
            text.append(orjson.dumps(part["functionResponse"].get("response")).decode())
        else:
            raise RequestRefusedError(f"contents.parts holds only {', '.join(sorted(part))}")
    return Turn(role, "".join(text), images)


def _declarations(group: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return group.get("functionDeclarations") or group.get("function_declarations") or ()


def _offer(tool: Mapping[str, Any]) -> ToolOffer:
    if not isinstance(tool.get("name"), str):
        raise RequestRefusedError("tools.functionDeclarations: a name is required")
    schema = tool.get("parametersJsonSchema") or tool.get("parameters") or {"type": "object"}
    return ToolOffer(tool["name"], schema)


def _choice(config: Mapping[str, Any] | None) -> Any:
    mode = ((config or {}).get("functionCallingConfig") or {}).get("mode", "AUTO")
    choices = {"AUTO": "auto", "NONE": "none", "ANY": "required", "VALIDATED": "auto"}
    if mode not in choices:
        raise RequestRefusedError(f"functionCallingConfig.mode is {mode!r}, which is unknown")
    return choices[mode]
