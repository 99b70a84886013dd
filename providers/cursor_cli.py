"""The Cursor CLI as a provider: one process a call, which works in a project's folder.

Source: Cursor's documentation of its CLI (parameters, headless use, output format).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

from millrace.providers.cursor_failures import ended_early, not_started, timed_out
from millrace.providers.cursor_prompt import cursor_prompt
from millrace.providers.cursor_reply import CursorReply
from millrace.providers.entry import ProviderEntry
from millrace.providers.keys import ApiKey, ApiKeys
from millrace.providers.process_group import ProcessGroup
from millrace.providers.protocol import (
    EmbeddingReply,
    EmbeddingRequest,
    ModelRequest,
    ProviderEvent,
)
from millrace.providers.stall import StallWatch
from millrace.providers.wires.wire import ReplyLimits
from millrace.schemas.errors import ProviderError, ProviderUnavailableError, RequestRefusedError
from millrace.schemas.provider_health import KeyAside

_KEY_VARIABLE = "CURSOR_API_KEY"
_EXIT_SECONDS = 2.0
"""How long a command may take to end after its result, or after it was asked to."""
_MAX_ARGUMENT_BYTES = 2**17 - 1
"""Linux takes no longer argument."""

_PASSED_ON = frozenset(
    {
        "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
        "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
        "NODE_EXTRA_CA_CERTS", "SSL_CERT_DIR", "SSL_CERT_FILE",
        "APPDATA", "LOCALAPPDATA", "SYSTEMROOT", "USERPROFILE",
    }
)  # fmt: skip


class CursorCliProvider:
    """Implements `Provider` with `cursor-agent --print --output-format stream-json`.

    The command gets the prompt on its standard input, the key in its environment, and of our
    environment only what it needs to run: it hands tools to a model, and the keys of other
    providers are none of its business. Whatever ends a call (a timeout, cancellation, its
    completion) ends every process of the command's group. Tool calls that it makes are its own
    and are not reported.
    """

    def __init__(
        self,
        *,
        name: str,
        entry: ProviderEntry,
        keys: ApiKeys,
        environ: Mapping[str, str],
        limits: ReplyLimits,
    ) -> None:
        self.name = name
        self.keys = keys
        self._entry = entry
        self._limits = limits
        wanted = _PASSED_ON.union(entry.pass_on_env)
        self._environ = {
            name: value
            for name, value in environ.items()
            if name in wanted or name.startswith(("LC_", "CURSOR_"))
        }
        if keys.all:
            self._environ.pop(_KEY_VARIABLE, None)
        self._running: set[ProcessGroup] = set()
        self._closed = False

    async def ask(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        """Run the command and yield what it says as it comes; see `Provider`."""
        prompt = cursor_prompt(request)
        key = self.keys.next()
        alias = None if key is None else key.alias
        reply = CursorReply(limits=self._limits, partial=request.stream)
        reply.key_alias = alias
        private = (prompt, "" if key is None else key.secret)
        try:
            if request.quota is not None:
                request.quota.sent_to(self.name)
            async with self._run(self._arguments(request, prompt), self._stdin(prompt), key) as run:
                async with aclosing(self._read(run, reply)) as events:
                    async for event in events:
                        yield event
                if not reply.ended:
                    code = await run.wait(seconds=_EXIT_SECONDS)
                    raise ended_early(code, run.stderr, begun=reply.begun, private=private)
                for event in reply.close():
                    yield event
                await run.wait(seconds=_EXIT_SECONDS)
        except ProviderError as error:
            error.key_alias = alias
            raise

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        """Refuse: the command has no embeddings.

        Raises:
            RequestRefusedError: Always.
        """
        raise RequestRefusedError(
            f"the Cursor CLI has no embeddings, so {request.model!r} cannot be asked for them: "
            "send them to an entry whose wire is openai, gemini or ollama"
        )

    async def check(self) -> None:
        """Run the command with `--version`, which asks no server; it may still lack a login.

        Raises:
            ProviderUnavailableError: It is not installed, or does not run.
        """
        watch = StallWatch()
        try:
            async with self._run(("--version",), b"", self.keys.next()) as run:
                while await watch.wait(run.read(), seconds=self._entry.timeouts.connect):
                    pass
                code = await run.wait(seconds=_EXIT_SECONDS)
                if code != 0:
                    raise ended_early(code, run.stderr, begun=False, private=())
        except TimeoutError as error:
            raise timed_out(self._entry.command, error) from error
        finally:
            watch.close()

    async def aclose(self) -> None:
        """End every process; calls still running raise."""
        self._closed = True
        await asyncio.gather(
            *(group.stop(grace_seconds=_EXIT_SECONDS) for group in tuple(self._running))
        )

    @property
    def keys_set_aside(self) -> tuple[KeyAside, ...]:
        """None: keys take turns here, and are not judged."""
        return ()

    @property
    def usable(self) -> bool:
        """Always, as no key is set aside."""
        return True

    @property
    def accounts(self) -> tuple[str, ...]:
        """One: the command says nothing of limits."""
        return (self.name,)

    async def _read(
        self, run: ProcessGroup, reply: CursorReply
    ) -> AsyncGenerator[ProviderEvent, None]:
        watch = StallWatch()
        limit = self._entry.timeouts.first_token
        try:
            while not reply.ended:
                piece = await watch.wait(run.read(), seconds=limit)
                if not piece:
                    return
                limit = self._entry.timeouts.idle
                for event in reply.feed(piece):
                    yield event
        except TimeoutError as error:
            raise timed_out(self._entry.command, error) from error
        finally:
            watch.close()

    @asynccontextmanager
    async def _run(
        self, arguments: tuple[str, ...], stdin: bytes, key: ApiKey | None
    ) -> AsyncIterator[ProcessGroup]:
        entry = self._entry
        if self._closed:
            raise ProviderUnavailableError(f"{self.name!r} was closed")
        environ = self._environ if key is None else {**self._environ, _KEY_VARIABLE: key.secret}
        try:
            group = await ProcessGroup.start(
                (entry.command, *arguments), cwd=entry.project, environ=environ, stdin=stdin
            )
        except OSError as error:
            raise not_started(error, command=entry.command, project=entry.project) from error
        self._running.add(group)
        try:
            yield group
        finally:
            self._running.discard(group)
            await group.stop(grace_seconds=_EXIT_SECONDS)

    def _arguments(self, request: ModelRequest, prompt: str) -> tuple[str, ...]:
        entry = self._entry
        arguments = ["--print", "--output-format", "stream-json"]
        if request.stream:
            arguments.append("--stream-partial-output")
        arguments += ["--model", request.model, *entry.arguments]
        if entry.prompt_on == "argument":
            if len(prompt.encode()) > _MAX_ARGUMENT_BYTES:
                raise RequestRefusedError(
                    f"the prompt is longer than the {_MAX_ARGUMENT_BYTES} bytes that an argument "
                    "may have: set the entry's prompt_on to 'stdin'"
                )
            if "\0" in prompt:
                raise RequestRefusedError(
                    "the prompt holds a null character, which an argument cannot: set the entry's "
                    "prompt_on to 'stdin'"
                )
            arguments += ["--", prompt]
        return tuple(arguments)

    def _stdin(self, prompt: str) -> bytes:
        return prompt.encode() if self._entry.prompt_on == "stdin" else b""
