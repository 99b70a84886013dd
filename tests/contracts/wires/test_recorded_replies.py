"""Replies that real vendors sent, through our adapters over real HTTP.

The recordings belong to other projects and stay out of the repository: MILLRACE_RECORDINGS
names the folder that holds them.
"""

import json
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from millrace.providers.entry import ModelEntry, ProviderEntry, Timeouts
from millrace.providers.protocol import (
    Completion,
    ModelRequest,
    ProviderEvent,
    ReasoningDelta,
    TextDelta,
    ToolArgumentsDelta,
    UsageSoFar,
)
from millrace.providers.registry import build_provider
from millrace.providers.transport import build_client
from millrace.schemas.errors import (
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRefusedError,
)
from millrace.schemas.message import Message

_FOLDER = os.environ.get("MILLRACE_RECORDINGS")
_CONTENT_TYPES = {
    ("openai", True): "text/event-stream",
    ("anthropic", True): "text/event-stream",
    ("gemini", True): "text/event-stream",
    ("ollama", True): "application/x-ndjson",
}
_FINISH = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "end_turn": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "pause_turn": "other",
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
}


@dataclass(frozen=True)
class Case:
    """One recorded reply and what it says."""

    name: str
    meta: dict[str, Any]
    expected: dict[str, Any]
    body: bytes

    @property
    def error(self) -> dict[str, Any] | None:
        return self.expected.get("error")


def _load() -> list[Case]:
    if _FOLDER is None:
        return []
    folder = Path(_FOLDER)
    folder = folder / "cases" if (folder / "cases").is_dir() else folder
    return [
        Case(
            path.name,
            json.loads((path / "meta.json").read_text("utf-8")),
            json.loads((path / "expected.json").read_text("utf-8")),
            (path / "response.body").read_bytes(),
        )
        for path in sorted(folder.iterdir())
        if (path / "meta.json").is_file()
    ]


CASES = _load()
pytestmark = pytest.mark.skipif(
    not CASES, reason="set MILLRACE_RECORDINGS to the folder with the recorded replies"
)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture
def by_name() -> dict[str, Case]:
    """What the server answers with; a test may put another reply in place of one."""
    return {case.name: case for case in CASES}


@pytest.fixture
async def server(by_name: dict[str, Case]) -> AsyncIterator[str]:
    """Serve the recordings: `/<whole|cut>/<case>/…` answers any path with that case."""

    async def serve(request: web.Request) -> web.StreamResponse:
        case = by_name[request.match_info["case"]]
        kind = (case.meta["wire"], case.meta["stream"])
        content_type = case.meta["content_type"] or _CONTENT_TYPES.get(kind, "application/json")
        headers = {"Content-Type": content_type, **(case.meta.get("response_headers") or {})}
        if request.match_info["how"] == "whole":
            return web.Response(status=case.meta["status"], body=case.body, headers=headers)
        response = web.StreamResponse(status=case.meta["status"], headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        cuts = random.Random(case.name)
        at = 0
        while at < len(case.body):
            size = cuts.randint(1, 40)
            await response.write(case.body[at : at + size])
            at += size
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_route("*", "/{how}/{case}/{tail:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


async def _ask(server: str, how: str, case: Case) -> tuple[list[ProviderEvent], Any]:
    """The events of the reply, and the error that ended it or None."""
    entry = ProviderEntry(
        wire=case.meta["wire"],
        base_url=f"{server}/{how}/{case.name}",
        models={"model": ModelEntry()},
        timeouts=Timeouts(first_token=20, idle=20),
    )
    provider = build_provider("recorded", entry, client=build_client(entry.timeouts), environ={})
    request = ModelRequest(
        model="model",
        messages=(Message(role="user", content="hello"),),
        stream=case.meta["stream"],
    )
    events: list[ProviderEvent] = []
    try:
        async for event in provider.ask(request):
            events.append(event)  # noqa: PERF401 - what came before an error counts
    except ProviderError as error:
        return events, error
    finally:
        await provider.aclose()
    return events, None


@every_case
@pytest.mark.parametrize("how", ["whole", "cut"])
async def test_a_recorded_reply_says_what_the_vendors_sdk_read_from_it(
    server: str, how: str, case: Case
) -> None:
    """Text, finish reason, tool calls and token counts, or the error, are all as expected."""
    events, error = await _ask(server, how, case)

    if case.error is not None or "block_reason" in case.expected:
        _check_error(case, error)
        return
    assert error is None
    completion = events[-1]
    assert isinstance(completion, Completion)
    assert completion.text == case.expected["text"]
    assert completion.finish_reason == _expected_finish(case)
    assert [
        {"name": call.name, "arguments": json.loads(call.arguments)}
        for call in completion.tool_calls
    ] == case.expected["tool_calls"]
    _check_usage(case, completion)


@every_case
async def test_the_deltas_of_a_recorded_reply_add_up_to_its_completion(
    server: str, case: Case
) -> None:
    """What came piece by piece is what the completion holds, and comes before it."""
    events, error = await _ask(server, "cut", case)

    if error is not None:
        assert not any(isinstance(event, Completion) for event in events)
        return
    *deltas, completion = events
    assert isinstance(completion, Completion)
    assert completion.text == "".join(e.text for e in deltas if isinstance(e, TextDelta))
    reasoning = "".join(e.text for e in deltas if isinstance(e, ReasoningDelta))
    assert completion.reasoning == reasoning
    arguments = [""] * len(completion.tool_calls)
    names = [""] * len(completion.tool_calls)
    for event in deltas:
        if isinstance(event, ToolArgumentsDelta):
            arguments[event.index] += event.arguments
            names[event.index] += event.name or ""
    assert [call.arguments for call in completion.tool_calls] == [a or "{}" for a in arguments]
    assert [call.name for call in completion.tool_calls] == names
    counted = [event.usage for event in deltas if isinstance(event, UsageSoFar)]
    assert (counted[-1] if counted else None) == completion.usage


_STREAMS = [case for case in CASES if case.meta["stream"] and case.error is None]


@pytest.mark.parametrize("case", _STREAMS, ids=lambda case: case.name)
async def test_a_recorded_stream_that_ends_before_its_finish_is_a_failure(
    server: str, by_name: dict[str, Case], case: Case
) -> None:
    """No stream counts as complete that ends before its finish reason or end mark."""
    marks = (b'"finish_reason":"', b'"finish_reason": "', b'"finishReason"', b"message_stop")
    marks += (b'"done":true', b'"done": true', b"[DONE]")
    first = min(at for mark in marks if (at := case.body.find(mark)) >= 0)
    cuts = random.Random(case.name).sample(range(first), min(first, 8))

    for cut in cuts:
        cut_case = replace(case, body=case.body[:cut])
        by_name[case.name] = cut_case
        events, error = await _ask(server, "whole", cut_case)
        assert not any(isinstance(event, Completion) for event in events)
        assert isinstance(error, ProviderUnavailableError)
        assert error.code == "stream_truncated"


def _expected_finish(case: Case) -> str | None:
    if "refusal" in case.expected:
        return "content_filter"
    finish = case.expected["finish_reason"]
    if case.expected["tool_calls"] and finish in ("", "stop", "STOP"):
        return "tool_calls"
    return _FINISH[finish] if finish else None


def _check_usage(case: Case, completion: Completion) -> None:
    expected = case.expected
    billed = expected.get("remarks", {}).get("billed_with_iterations")
    usage = completion.usage
    if expected["input_tokens"] is None:
        assert usage is None
        return
    assert usage is not None
    assert usage.source == "reported"
    assert usage.input_tokens == (billed or expected)["input_tokens"]
    assert usage.output_tokens == (billed or expected)["output_tokens"]
    assert usage.reasoning_tokens == (expected.get("reasoning_tokens") or 0)
    if billed is None:
        assert usage.cached_tokens == (expected.get("cached_tokens") or 0)
        assert usage.cache_write_tokens == (expected.get("cache_write_tokens") or 0)
    else:
        iterations = expected["usage"]["iterations"]
        assert usage.cached_tokens == sum(i["cache_read_input_tokens"] for i in iterations)


def _check_error(case: Case, error: ProviderError | None) -> None:
    assert error is not None
    if case.error is None:
        assert error.code == "content_filtered"
        return
    assert error.retryable == case.error["retryable"]
    status = case.error.get("status_in_body") or case.error["status"]
    words = f"{case.error['type']} {case.error['code']} {case.error['message']}"
    if status == 429:
        assert isinstance(error, RateLimitedError)
        assert error.code == "rate_limited"
        assert error.retry_after == pytest.approx(48 if case.meta["wire"] == "gemini" else 26.604)
    elif status >= 500:
        assert isinstance(error, ProviderUnavailableError)
        assert error.code == "provider_unavailable"
    else:
        assert isinstance(error, RequestRefusedError)
        assert error.code == _refusal_code(status, words)
    assert case.error["message"] not in error.message


def _refusal_code(status: int, words: str) -> str:
    if status == 401 or "API key not valid" in words:
        return "authentication_failed"
    if status == 404:
        return "model_not_found"
    if "content_filter" in words:
        return "content_filtered"
    too_long = ("too long", "context length", "exceeds the maximum number of tokens")
    return "context_length_exceeded" if any(w in words for w in too_long) else "request_refused"
