"""The client for code without an event loop."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, Unpack

from millrace.client.answer import Answer
from millrace.client.asking import Asking
from millrace.client.connection import KafkaConnection
from millrace.client.millrace import Millrace
from millrace.client.pieces import Piece, Position
from millrace.schemas.response import Response
from millrace.schemas.vocabulary import EnsembleMode

Result = TypeVar("Result")


class BlockingMillrace:
    """`Millrace`, for any number of threads; a context manager.

    Runs its own event loop in a thread. Methods take and raise what those of `Millrace` do.
    """

    def __init__(self, servers: str | Sequence[str] | KafkaConnection, **options: Any) -> None:
        self._client = Millrace(servers, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="millrace-client", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._wait_for(self._client.__aenter__())
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._wait_for(self._client.__aexit__(kind, error, trace))
        finally:
            self._end_loop()

    def complete(self, prompt: str | None = None, **options: Unpack[Asking]) -> Response:
        """Ask, and wait for the terminal record."""
        return self._wait_for(self._client.complete(prompt, **options))

    def stream(
        self, prompt: str | None = None, *, member: int | None = None, **options: Unpack[Asking]
    ) -> "BlockingAnswer":
        """Ask, and follow the answer while it is made."""
        answer = self._wait_for(self._client.stream(prompt, member=member, **options))
        return BlockingAnswer(answer, self._wait_for)

    def ensemble(
        self,
        prompt: str | None = None,
        *,
        members: int = 3,
        mode: EnsembleMode = "vote",
        quorum: int | None = None,
        **options: Unpack[Asking],
    ) -> Response:
        """Ask several models on different providers and join their answers."""
        return self._wait_for(
            self._client.ensemble(prompt, members=members, mode=mode, quorum=quorum, **options)
        )

    def delegate(
        self, prompt: str | None = None, *, max_parts: int | None = None, **options: Unpack[Asking]
    ) -> Response:
        """Have a model split the work, others do the parts, and one join them."""
        return self._wait_for(self._client.delegate(prompt, max_parts=max_parts, **options))

    def embed(
        self, inputs: Sequence[str], *, dimensions: int | None = None, **options: Unpack[Asking]
    ) -> Response:
        """Turn texts into vectors."""
        return self._wait_for(self._client.embed(inputs, dimensions=dimensions, **options))

    def follow(
        self,
        request_id: str,
        *,
        since: datetime,
        after: Position | None = None,
        member: int | None = None,
        timeout_seconds: float | None = None,
    ) -> "BlockingAnswer":
        """Follow the answer to a request that was sent earlier."""
        following = self._client.follow(
            request_id, since=since, after=after, member=member, timeout_seconds=timeout_seconds
        )
        answer = self._wait_for(following)
        return BlockingAnswer(answer, self._wait_for)

    def cancel(
        self, request_id: str, *, members: Sequence[int] | None = None, reason: str = ""
    ) -> None:
        """Stop the work on a request, or on some of its members."""
        self._wait_for(self._client.cancel(request_id, members=members, reason=reason))

    def _wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except BaseException:
            # Of a thread that is interrupted: nobody waits for the answer any more.
            waiting.cancel()
            raise

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class WaitFor(Protocol):
    """Runs something on the client's event loop, and waits for what it returns."""

    def __call__(self, work: Coroutine[Any, Any, Result], /) -> Result:
        """Wait for it, and raise what it raises."""
        ...


class BlockingAnswer:
    """`Answer` without an event loop; a context manager and an iterator of pieces."""

    def __init__(self, answer: Answer, wait_for: "WaitFor") -> None:
        self._answer = answer
        self._wait_for = wait_for
        self.request_id = answer.request_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wait_for(self._answer.aclose())

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        async def following() -> Piece | None:
            return await anext(self._answer, None)

        piece = self._wait_for(following())
        if piece is None:
            raise StopIteration
        return piece

    @property
    def position(self) -> Position:
        """Behind the last piece that was taken."""
        return self._answer.position

    def response(self) -> Response:
        """The terminal record, whatever its status."""
        return self._wait_for(self._answer.response())

    def completed(self) -> Response:
        """The terminal record of a request that completed."""
        return self._wait_for(self._answer.completed())
