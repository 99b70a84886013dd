"""An answer on its way: its pieces as they come, and how it ended."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from millrace.client.pieces import Piece, Position, Sequencer
from millrace.schemas.chunk import Chunk
from millrace.schemas.errors import (
    NoReplyError,
    PipelineError,
    RequestNotCompletedError,
    StreamGapError,
)
from millrace.schemas.response import Response

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time of the wall clock."""
    return datetime.now(UTC)


class Answer:
    """The answer to one request; an async context manager and an async iterator of pieces.

    Leaving the context before the answer has ended cancels the request: nobody waits for it any
    more. Pieces that nobody has taken yet are kept, so a slow reader costs the memory of one
    answer and holds no other up.
    """

    def __init__(
        self,
        request_id: str,
        *,
        wait_until: datetime | None,
        abandon: Callable[[], Awaitable[None]],
        forget: Callable[["Answer"], None],
        after: Position | None = None,
        member: int | None = None,
        wants_pieces: bool = True,
        clock: Clock = utc_now,
    ) -> None:
        self.request_id = request_id
        self.wants_pieces = wants_pieces
        """Whether chunks are to be read for it at all."""
        self._wait_until = wait_until
        self._abandon = abandon
        self._forget = forget
        self._member = member
        self._clock = clock
        self._sequencer = Sequencer(after)
        self._pieces: deque[Piece] = deque()
        self._taken = {mark.member: mark for mark in (after.marks if after else ())}
        self._stirred = asyncio.Event()
        self._response: Response | None = None
        self._ended = False
        self._failure: PipelineError | None = None
        self._gap: StreamGapError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        """The next piece.

        Raises:
            StreamGapError: Pieces are missing; `response` still has the whole answer.
            NoReplyError: The request has not ended in time.
            BrokerError: The topics cannot be read any more.
        """
        while not self._pieces:
            if self._gap is not None:
                raise self._gap
            if self._ended:
                raise StopAsyncIteration
            await self._wait()
        piece = self._pieces.popleft()
        self._taken[piece.member] = piece.mark
        return piece

    @property
    def position(self) -> Position:
        """Behind the last piece that was taken: from there `Millrace.follow` goes on."""
        return Position(marks=tuple(self._taken.values()))

    async def text(self) -> AsyncIterator[str]:
        """Yield only the text of the pieces.

        For one that wants to show text and never take any back, ask without streaming: after an
        attempt that failed midway, the next one's text follows.
        """
        async for piece in self:
            if piece.delta:
                yield piece.delta

    async def response(self) -> Response:
        """The terminal record, whatever its status; waits for it.

        Raises:
            NoReplyError: There is none in time.
            BrokerError: The topics cannot be read any more.
        """
        while self._response is None:
            await self._wait()
        return self._response

    async def completed(self) -> Response:
        """The terminal record of a request that completed; waits for it.

        Raises:
            RequestNotCompletedError: It ended otherwise; the error holds the record.
            NoReplyError: It did not end in time.
            BrokerError: The topics cannot be read any more.
        """
        response = await self.response()
        if response.status != "completed":
            raise RequestNotCompletedError.of(response)
        return response

    async def aclose(self) -> None:
        """Expect nothing more; cancels the request if it has not ended."""
        self._forget(self)
        if self._response is None and not self._ended and self._failure is None:
            self._ended = True
            await asyncio.shield(self._abandon())

    def take_chunk(self, chunk: Chunk) -> None:
        """A chunk of this request was read."""
        if self._ended or self._gap is not None:
            return
        if self._member is not None and chunk.member != self._member:
            return
        try:
            piece = self._sequencer.take(chunk)
        except StreamGapError as gap:
            self._gap = gap
            self._stirred.set()
            return
        if piece is not None:
            self._pieces.append(piece)
            self._stirred.set()

    def take_response(self, response: Response) -> None:
        """The terminal record was read; pieces written before it may still come."""
        self._response = self._response or response
        self._stirred.set()

    def end(self) -> None:
        """All pieces have been read."""
        self._ended = True
        self._forget(self)
        self._stirred.set()

    def fail(self, failure: PipelineError) -> None:
        """Nothing can be read any more."""
        self._failure = failure
        self._stirred.set()

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._ended and self._response is None:
            raise NoReplyError(f"request {self.request_id!r}: the answer was closed")
        self._stirred.clear()
        try:
            async with asyncio.timeout(self._seconds_left()):
                await self._stirred.wait()
        except TimeoutError:
            raise NoReplyError(
                f"request {self.request_id!r} has no terminal record although its deadline has "
                "passed: see that the pipeline runs and reads these topics (`millrace check`), and "
                f"`millrace watch --request {self.request_id} --from 1h`"
            ) from None

    def _seconds_left(self) -> float | None:
        if self._wait_until is None:
            return None
        return max(0.0, (self._wait_until - self._clock()).total_seconds())
