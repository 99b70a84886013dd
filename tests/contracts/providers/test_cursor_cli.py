"""The Cursor CLI as a provider, with an executable in its place that behaves like it."""

import asyncio
import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from millrace.providers.entry import ModelEntry, ProviderEntry, Timeouts
from millrace.providers.protocol import (
    Completion,
    EmbeddingRequest,
    ModelRequest,
    ModelServer,
    ProviderEvent,
    ReasoningDelta,
    TextDelta,
)
from millrace.providers.registry import build_provider
from millrace.providers.wires.wire import ReplyLimits
from millrace.schemas.errors import (
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    ReplyInvalidError,
    RequestRefusedError,
)
from millrace.schemas.message import Message

DOUBLE = Path(__file__).resolve().parents[2] / "fixtures" / "cursor_agent_double.py"
INIT = {"type": "system", "subtype": "init", "session_id": "s-1", "model": "Auto"}
PROMPT = "Which files are there? Name each of them."


def said(text: str, **fields: Any) -> dict[str, Any]:
    """An assistant event."""
    content = [{"type": "text", "text": text}]
    return {"type": "assistant", "message": {"role": "assistant", "content": content}, **fields}


def result(text: str) -> dict[str, Any]:
    """The event that ends a reply."""
    return {"type": "result", "subtype": "success", "is_error": False, "result": text}


TOOL = {"type": "tool_call", "subtype": "started", "call_id": "c", "tool_call": {"lsToolCall": {}}}
ANSWER: tuple[dict[str, Any], ...] = (
    INIT,
    {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": PROMPT}]}},
    {"type": "thinking", "subtype": "delta", "text": "Hm.", "timestamp_ms": 1},
    said("Look", timestamp_ms=2),
    said("ing.", timestamp_ms=3),
    said("Looking.", timestamp_ms=4, model_call_id="m"),
    TOOL,
    {**TOOL, "subtype": "completed"},
    said(" One", timestamp_ms=5),
    said(" file.", timestamp_ms=6),
    said(" One file."),
    result("Looking. One file."),
)


class Cli:
    """An installed CLI that follows a script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script = folder / "script.json"
        self.record = folder / "record.json"
        self.command = folder / "cursor-agent"
        self.command.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(DOUBLE))} "$@"\n'
        )
        self.command.chmod(0o755)
        self.environ = {
            "PATH": os.environ["PATH"],
            "CURSOR_DOUBLE_SCRIPT": str(self.script),
            "OPENAI_API_KEY": "sk-somebody-elses",
            "MY_KEY": "crsr_0123456789abcdef",
            "DATABASE": "postgres://somewhere",
        }
        self.made: list[ModelServer] = []

    def does(self, *steps: dict[str, Any], deaf: bool = False) -> None:
        """Set the script."""
        script = {"steps": steps, "record": str(self.record), "deaf": deaf}
        self.script.write_text(json.dumps(script))

    def says(self, *events: dict[str, Any]) -> None:
        """Set the script to a few events."""
        self.does(*({"say": event} for event in events))

    def provider(self, *, limits: ReplyLimits | None = None, **fields: Any) -> ModelServer:
        """A provider that runs this CLI."""
        entry = ProviderEntry.model_validate(
            {
                "wire": "cursor-cli",
                "command": str(self.command),
                "models": {"auto": ModelEntry()},
                "timeouts": Timeouts(connect=20, first_token=20, idle=20),
                **fields,
            }
        )
        made = build_provider("cursor", entry, environ=self.environ, limits=limits)
        self.made.append(made)
        return made

    @property
    def noted(self) -> dict[str, Any]:
        """How the CLI was called."""
        noted: dict[str, Any] = json.loads(self.record.read_text())
        return noted


@pytest.fixture
async def cli(tmp_path: Path) -> Any:
    """A CLI of the test's own; nothing of it is left running."""
    made = Cli(tmp_path)
    yield made
    for provider in made.made:
        await provider.aclose()


def ask(text: str = PROMPT, *, stream: bool = True) -> ModelRequest:
    """A question."""
    messages = (Message(role="system", content="Be brief."), Message(role="user", content=text))
    return ModelRequest(model="auto", messages=messages, stream=stream)


async def events_of(provider: ModelServer, request: ModelRequest) -> list[ProviderEvent]:
    """A whole reply, text in a row as one delta: what of it comes together is chance."""
    events: list[ProviderEvent] = []
    async for event in provider.ask(request):
        before = events[-1] if events else None
        if isinstance(event, TextDelta) and isinstance(before, TextDelta):
            events[-1] = TextDelta(before.text + event.text)
        else:
            events.append(event)
    return events


async def gone(pid: int) -> None:
    """Wait until a process has ended, whoever started it."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(20):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def alive(pid: int) -> bool:
    """Whether a process runs; one that is only waiting to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_reply_streams_and_ends_whole(cli: Cli) -> None:
    """Pieces once each, whatever is repeated; the CLI's own tool calls are its business."""
    cli.says(*ANSWER)

    events = await events_of(cli.provider(), ask())

    assert events == [
        ReasoningDelta("Hm."),
        TextDelta("Looking. One file."),
        Completion(
            text="Looking. One file.",
            reasoning="Hm.",
            finish_reason="stop",
            model="Auto",
            response_id="s-1",
        ),
    ]


async def test_a_plain_reply_comes_message_by_message(cli: Cli) -> None:
    """Without partial output nothing is repeated."""
    cli.says(
        INIT,
        said("Looking.", timestamp_ms=1, model_call_id="m"),
        TOOL,
        said(" Done."),
        result("Looking. Done."),
    )

    *deltas, last = await events_of(cli.provider(), ask(stream=False))

    assert deltas == [TextDelta("Looking. Done.")]
    assert isinstance(last, Completion)
    assert last.text == "Looking. Done."
    assert "--stream-partial-output" not in cli.noted["arguments"]


async def test_how_the_command_is_called(cli: Cli) -> None:
    """In the project's folder, with the prompt where nobody else sees it, and its own key."""
    project = cli.folder / "project"
    project.mkdir()
    cli.says(INIT, result("Yes."))
    provider = cli.provider(
        project=str(project),
        arguments=("--mode", "ask"),
        api_key_env=("MY_KEY",),
        pass_on_env=("DATABASE",),
    )

    events = await events_of(provider, ask())

    noted = cli.noted
    assert noted["arguments"] == [
        *("--print", "--output-format", "stream-json", "--stream-partial-output"),
        *("--model", "auto", "--mode", "ask"),
    ]
    assert noted["stdin"] == f"Be brief.\n\n{PROMPT}"
    assert noted["cwd"] == str(project.resolve())
    assert noted["environ"]["CURSOR_API_KEY"] == "crsr_0123456789abcdef"
    assert noted["environ"]["DATABASE"] == "postgres://somewhere"
    assert not {"OPENAI_API_KEY", "MY_KEY"} & noted["environ"].keys()
    assert noted["group"] == noted["pid"] != os.getpgrp()
    assert isinstance(events[-1], Completion)
    assert events[-1].key_alias == "MY_KEY"


async def test_the_prompt_can_be_an_argument(cli: Cli) -> None:
    """For versions that read none; the last argument, whatever it looks like."""
    cli.says(INIT, result("Yes."))

    await events_of(cli.provider(prompt_on="argument"), ask("--help"))

    assert cli.noted["arguments"][-2:] == ["--", "Be brief.\n\n--help"]
    assert cli.noted["stdin"] == ""


@pytest.mark.parametrize("text", ["x" * 2**17, "nul\0"])
async def test_what_is_no_argument_is_refused(cli: Cli, text: str) -> None:
    """Before the command runs, with the setting that helps."""
    with pytest.raises(RequestRefusedError, match="prompt_on to 'stdin'"):
        await events_of(cli.provider(prompt_on="argument"), ask(text))


async def test_a_long_prompt_that_nobody_reads_holds_nothing_up(cli: Cli) -> None:
    """More than any pipe holds."""
    cli.does({"say": INIT}, {"say": result("Yes.")}, deaf=True)

    events = await events_of(cli.provider(), ask("x" * 2**21))

    assert isinstance(events[-1], Completion)


@pytest.mark.parametrize(
    ("steps", "kind", "code", "words"),
    [
        ((), ProviderUnavailableError, "stream_truncated", "without a result"),
        (({"say": said("Hal")},), ProviderUnavailableError, "stream_truncated", "without a result"),
        (({"exit": 3},), ProviderUnavailableError, "provider_unavailable", "exit code 3"),
        (
            ({"say": said("Hal")}, {"exit": 3}),
            ProviderUnavailableError,
            "stream_truncated",
            "exit code 3",
        ),
        (
            ({"die": signal.SIGKILL},),
            ProviderUnavailableError,
            "stream_truncated",
            "ended by SIGKILL",
        ),
        (
            ({"complain": "Error: Not logged in"}, {"exit": 1}),
            RequestRefusedError,
            "authentication_failed",
            "cursor-agent login",
        ),
        (
            ({"complain": json.dumps(INIT)}, {"complain": "Workspace Trust Required"}, {"exit": 1}),
            RequestRefusedError,
            "request_refused",
            "add '--trust'",
        ),
        (
            ({"complain": "You've hit your usage limit"}, {"exit": 1}),
            RateLimitedError,
            "rate_limited",
            "used up",
        ),
        (
            ({"complain": "Cannot use this model: m. Available models: auto"}, {"exit": 1}),
            RequestRefusedError,
            "model_not_found",
            "cursor-agent models",
        ),
        (
            ({"complain": "error: unknown option '--mode'"}, {"exit": 1}),
            RequestRefusedError,
            "request_refused",
            "arguments",
        ),
        (({"raw": "T: no JSON\n"},), ReplyInvalidError, "reply_invalid", "not JSON"),
        (({"raw": '{"type":"x","y":"\xff"}\n'},), ReplyInvalidError, "reply_invalid", "not JSON"),
        (({"raw": "[1]\n"},), ReplyInvalidError, "reply_invalid", "shape"),
        (({"raw": "x" * 5000},), ReplyInvalidError, "reply_invalid", "4096 bytes"),
        (
            ({"say": {"type": "result", "subtype": "error", "is_error": True}},),
            ProviderUnavailableError,
            "provider_unavailable",
            "work failed",
        ),
    ],
)
async def test_whatever_is_no_result_is_an_error(
    cli: Cli, steps: tuple[dict[str, Any], ...], kind: type[ProviderError], code: str, words: str
) -> None:
    """Never a short success; the message says what to do."""
    cli.does(*steps)
    provider = cli.provider(limits=ReplyLimits(max_frame_bytes=4096))

    with pytest.raises(kind, match=words) as failed:
        await events_of(provider, ask())

    assert (type(failed.value), failed.value.code) == (kind, code)


async def test_an_exit_code_after_the_result_does_not_matter(cli: Cli) -> None:
    """The answer is whole."""
    cli.does({"say": INIT}, {"say": result("Yes.")}, {"exit": 1})

    events = await events_of(cli.provider(), ask())

    assert isinstance(events[-1], Completion)


async def test_a_flood_of_errors_blocks_nothing_and_shows_no_secret(cli: Cli) -> None:
    """One line is shown at most, without the prompt and without keys."""
    cli.does(
        {"complain": f"failed on: {PROMPT} with crsr_0123456789abcdef"},
        {"complain": "x" * 2**20},
        {"exit": 1},
    )
    provider = cli.provider(api_key_env=("MY_KEY",))

    with pytest.raises(ProviderUnavailableError) as failed:
        await events_of(provider, ask())

    assert failed.value.message == "the command ended with exit code 1"
    assert failed.value.key_alias == "MY_KEY"


async def test_a_command_that_is_not_installed(cli: Cli) -> None:
    """The message says how to install it; asking again would not help."""
    provider = cli.provider(command="no-such-command-anywhere")

    with pytest.raises(ProviderUnavailableError, match=r"cursor\.com/install") as failed:
        await events_of(provider, ask())
    with pytest.raises(ProviderUnavailableError, match="is not there"):
        await provider.check()

    assert not failed.value.retryable


async def test_a_command_that_cannot_be_run(cli: Cli) -> None:
    """The system says why."""
    cli.command.chmod(0o644)

    with pytest.raises(ProviderUnavailableError, match="Permission denied"):
        await cli.provider().check()


async def test_a_project_that_is_not_there(cli: Cli) -> None:
    """That is a setting to change."""
    with pytest.raises(RequestRefusedError, match="is not a folder"):
        await events_of(cli.provider(project=str(cli.folder / "gone")), ask())


async def test_the_check_runs_the_command_for_its_version(cli: Cli) -> None:
    """Which costs nothing."""
    cli.does({"raw": "2026.01.28\n"})

    await cli.provider().check()

    assert cli.noted["arguments"] == ["--version"]


async def test_a_check_that_fails(cli: Cli) -> None:
    """By exit code."""
    cli.does({"complain": "cannot find module"}, {"exit": 1})

    with pytest.raises(ProviderUnavailableError, match="exit code 1"):
        await cli.provider().check()


@pytest.mark.parametrize("steps", [(), ({"say": said("Hal")},)], ids=["before", "midway"])
async def test_a_silent_command_times_out_with_all_its_processes(
    cli: Cli, steps: tuple[dict[str, Any], ...]
) -> None:
    """Also those that do not listen to the first signal."""
    cli.does({"child": "stubborn"}, *steps, {"hang": True})
    provider = cli.provider(timeouts=Timeouts(first_token=4.0 if not steps else 20, idle=0.2))

    with pytest.raises(ProviderUnavailableError, match="did not answer in time") as failed:
        await events_of(provider, ask())

    assert failed.value.code == "provider_timeout"
    assert not alive(cli.noted["pid"])
    await gone(cli.noted["child"])


async def test_cancelling_ends_all_its_processes(cli: Cli) -> None:
    """And passes through."""
    cli.does({"child": "stubborn"}, {"say": said("Hal")}, {"ignore_term": True}, {"hang": True})
    first = asyncio.Event()

    async def read() -> None:
        async for _ in cli.provider().ask(ask()):
            first.set()

    task = asyncio.create_task(read())
    async with asyncio.timeout(20):
        await first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not alive(cli.noted["pid"])
    await gone(cli.noted["child"])


async def test_closing_the_iterator_ends_all_its_processes(cli: Cli) -> None:
    """As a caller does that has heard enough."""
    cli.does({"child": "meek"}, {"say": said("Hal")}, {"hang": True})
    reply = cli.provider().ask(ask())

    assert await anext(reply) == TextDelta("Hal")
    await reply.aclose()

    assert not alive(cli.noted["pid"])
    await gone(cli.noted["child"])


async def test_what_a_finished_command_leaves_behind_is_ended(cli: Cli) -> None:
    """A server that its shell tool started, say."""
    cli.does({"child": "meek"}, {"say": INIT}, {"say": result("Yes.")})

    events = await events_of(cli.provider(), ask())

    assert isinstance(events[-1], Completion)
    await gone(cli.noted["child"])


async def test_closing_the_provider_breaks_off_what_runs(cli: Cli) -> None:
    """And nothing begins any more."""
    cli.does({"say": said("Hal")}, {"hang": True})
    provider = cli.provider()
    reply = provider.ask(ask())
    assert await anext(reply) == TextDelta("Hal")

    await provider.aclose()

    with pytest.raises(ProviderUnavailableError) as failed:
        await anext(reply)
    assert failed.value.code == "stream_truncated"
    with pytest.raises(ProviderUnavailableError, match="was closed"):
        await events_of(provider, ask())


async def test_calls_run_beside_each_other(cli: Cli) -> None:
    """One process each."""
    cli.says(*ANSWER)
    provider = cli.provider()

    replies = await asyncio.gather(*(events_of(provider, ask()) for _ in range(4)))

    assert [len(events) for events in replies] == [3] * 4


async def test_there_are_no_embeddings(cli: Cli) -> None:
    """Said without running anything."""
    with pytest.raises(RequestRefusedError, match="no embeddings"):
        await cli.provider().embed(EmbeddingRequest(model="m", inputs=("x",)))

    assert not cli.record.exists()
