"""Tokens on their way to `llm.chunks`: the first at once, the rest gathered in a small window."""

import asyncio

from millrace.providers.running_loop import running_loop
from millrace.schemas.call import Call
from millrace.schemas.chunk import Chunk, ToolCallDelta
from millrace.schemas.unchecked import unchecked
from millrace.schemas.vocabulary import ChunkEnd
from millrace.streams.deliveries import Delivery
from millrace.streams.publisher import Publisher

_chunk = unchecked(Chunk)


class ChunkStream:
    """The chunks of one invocation, numbered from 0 without gaps.

    Does nothing for a request that did not ask for a stream. Must be closed: the last chunk says
    how the stream ended. `deliveries` holds what the broker has yet to acknowledge.
    """

    def __init__(
        self, *, publisher: Publisher, topic: str, call: Call, invocation: str, flush_seconds: float
    ) -> None:
        self._publisher = publisher
        self._topic = topic
        self._call = call
        self._invocation = invocation
        self._flush_seconds = flush_seconds
        self._active = call.stream
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: list[ToolCallDelta] = []
        self._sequence = 0
        self._timer: asyncio.Handle | None = None
        self._timed_flush: asyncio.Task[None] | None = None
        self._lock: asyncio.Lock | None = None
        """Of who waits for room; made when somebody has to."""
        self.deliveries: list[Delivery] = []

    @property
    def written(self) -> int:
        """How many chunks have been written."""
        return self._sequence

    async def add(
        self, *, text: str = "", reasoning: str = "", tool_call: ToolCallDelta | None = None
    ) -> None:
        """Take a delta.

        Raises:
            BrokerError: A chunk can never be delivered.
        """
        if not self._active:
            return
        if text:
            self._text.append(text)
        if reasoning:
            self._reasoning.append(reasoning)
        if tool_call is not None:
            self._tool_calls.append(tool_call)
        if not self._flush_seconds:
            await self._flush(end=None)
        elif self._timer is None and self._timed_flush is None:
            self._open_window()

    async def close(self, end: ChunkEnd) -> None:
        """Send what is left, with how it ended."""
        if not self._active:
            return
        self._active = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        flush = self._timed_flush
        if flush is not None:
            await flush
        if not self._flush_now(end=end):
            await self._flush(end=end)

    def _open_window(self) -> None:
        loop = running_loop()
        if self._sequence:
            self._timer = loop.call_later(self._flush_seconds, self._window_over)
        else:
            # At once, but with all that has come by now: a short answer is one chunk.
            self._timer = loop.call_soon(self._window_over)

    def _window_over(self) -> None:
        self._timer = None
        if not self._flush_now(end=None):
            self._timed_flush = asyncio.create_task(self._flush_when_there_is_room())

    async def _flush_when_there_is_room(self) -> None:
        await self._flush(end=None)
        self._timed_flush = None
        if self._active and self._gathered:
            self._open_window()

    def _flush_now(self, *, end: ChunkEnd | None) -> bool:
        """Flush where that need not wait, which is nearly always; False, and nothing done, else."""
        if self._lock is not None and self._lock.locked():
            return False
        if end is not None or self._gathered:
            chunk = self._next_chunk(end)
            delivery = self._publisher.publish_now(
                self._topic,
                chunk,
                key=chunk.request_id,
                headers=self._call.job.trace_headers(),
            )
            if delivery is None:
                return False
            self.deliveries.append(delivery)
            self._sequence += 1
            self._text.clear()
            self._reasoning.clear()
            self._tool_calls.clear()
        return True

    async def _flush(self, *, end: ChunkEnd | None) -> None:
        # The lock keeps a chunk from overtaking the one before it while the buffer is full.
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if end is None and not self._gathered:
                return
            texts, thoughts = len(self._text), len(self._reasoning)
            pieces = len(self._tool_calls)
            chunk = self._next_chunk(end)
            delivery = await self._publisher.publish(
                self._topic,
                chunk,
                key=chunk.request_id,
                headers=self._call.job.trace_headers(),
            )
            # Only now: a flush that is broken off while the buffer is full leaves no gap.
            self.deliveries.append(delivery)
            self._sequence += 1
            del self._text[:texts]
            del self._reasoning[:thoughts]
            del self._tool_calls[:pieces]

    @property
    def _gathered(self) -> bool:
        return bool(self._text or self._reasoning or self._tool_calls)

    def _next_chunk(self, end: ChunkEnd | None) -> Chunk:
        target = self._call.target
        return _chunk(
            request_id=self._call.job.request_id,
            member=self._call.member,
            attempt=self._call.attempt,
            invocation=self._invocation,
            sequence=self._sequence,
            delta="".join(self._text),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(self._tool_calls),
            provider=target.provider,
            model=target.model,
            end=end,
        )
