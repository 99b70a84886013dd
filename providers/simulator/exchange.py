"""Sends one reply over HTTP, at its pace and with its fault, and books what went out."""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from millrace.providers.simulator.behaviour import Behaviour
from millrace.providers.simulator.clock import Clock
from millrace.providers.simulator.ledger import Ledger, LedgerLine
from millrace.providers.simulator.pace import Pace
from millrace.providers.simulator.quota import Ruling
from millrace.providers.simulator.reply import Reply
from millrace.providers.simulator.wire import Wire

SIMULATED_HEADER: Final = "x-millrace-simulated"
_INTERNAL: Final = 500


class Exchange:
    """One HTTP exchange; each method sends the whole response, or as much as the fault allows.

    A client that has gone away shows as `ConnectionError` or as cancellation; the line says
    then what was sent until then.
    """

    __slots__ = (
        "_clock",
        "_ledger",
        "_line",
        "_request",
        "_started",
        "_wire",
        "response",
        "ruling",
    )

    def __init__(
        self,
        *,
        request: web.Request,
        wire: Wire,
        line: LedgerLine,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._request = request
        self._wire = wire
        self._line = line
        self._ledger = ledger
        self._clock = clock
        self._started = clock.elapsed()
        self.response = web.StreamResponse()
        """What is being sent."""
        self.ruling: Ruling | None = None
        """What is left of the rate limits, for the headers."""

    async def refuse(
        self, status: int, message: str, *, retry_after: float | None = None
    ) -> web.StreamResponse:
        """Send an error status with the wire's error body."""
        headers = self._headers(self._wire.plain_type)
        if retry_after is not None:
            headers["Retry-After"] = f"{retry_after:g}"
        body = self._wire.error(status, message, retry_after=retry_after)
        await self._send(web.Response(status=status, headers=headers, body=body))
        self._line.ended = "error"
        return self.response

    async def hang(self) -> web.StreamResponse:
        """Send nothing, until the client goes away."""
        self._ledger.mark_hung(self._line)
        await asyncio.get_running_loop().create_future()
        return self.response

    async def send_whole(
        self, reply: Reply, behaviour: Behaviour, pace: Pace
    ) -> web.StreamResponse:
        """Send the reply as one body, when its last token is due."""
        line, fault = self._line, behaviour.fault
        if pace.unhurried:
            try:
                await self._wait(pace.moment(reply.output_tokens))
            except asyncio.CancelledError:
                line.generated_tokens = pace.due(self._elapsed(), reply.output_tokens)
                raise
        if fault == "error_in_stream":
            return await self.refuse(_INTERNAL, "The request failed halfway. (simulated)")
        body = self._wire.whole(reply)
        line.generated_tokens = reply.output_tokens
        if fault is None:
            headers = self._headers(self._wire.plain_type)
            await self._send(web.Response(headers=headers, body=body))
            line.sent_tokens = reply.output_tokens
            self._complete(reply)
            return self.response
        part = body[: len(body) // 2]
        cleanly = fault in ("malformed", "cut_cleanly")
        await self._begin(self._wire.plain_type, len(part) if cleanly else len(body))
        await self.response.write(part)
        return await self._spoil(fault)

    async def send_stream(
        self, reply: Reply, behaviour: Behaviour, pace: Pace
    ) -> web.StreamResponse:
        """Send the reply as a stream, one frame a token."""
        frames = self._wire.frames(reply)
        line, fault = self._line, behaviour.fault
        if fault is None and not pace.unhurried:
            line.generated_tokens = reply.output_tokens
            body = b"".join((frames.head, *frames.tokens, frames.tail))
            response = web.Response(headers=self._headers(self._wire.stream_type), body=body)
            response.enable_chunked_encoding()
            await self._send(response)
            line.sent_tokens = reply.output_tokens
            self._complete(reply)
            return self.response
        await self._begin(self._wire.stream_type)
        total = len(frames.tokens)
        place = total if fault is None else min(total, getattr(behaviour, fault))
        await self._wait(pace.moment(0))
        await self.response.write(frames.head)
        line.input_reported = (
            self._wire.counts_early and reply.report_usage and bool(frames.head or place)
        )
        await self._send_tokens(frames.tokens, 0, place, pace)
        if fault == "malformed":
            await self.response.write(self._wire.broken_frame)
            await self._send_tokens(frames.tokens, place, total, pace)
        elif fault == "error_in_stream":
            await self.response.write(self._wire.error_frame)
            await self.response.write_eof()
            line.ended = "error"
            return self.response
        elif fault is not None:
            return await self._spoil(fault)
        await self.response.write_eof(frames.tail)
        self._complete(reply)
        if fault is not None:
            line.ended = "error"
        return self.response

    async def _send_tokens(self, tokens: Sequence[bytes], start: int, end: int, pace: Pace) -> None:
        line, sent = self._line, start
        while sent < end:
            await self._wait(pace.moment(sent))
            due = max(sent + 1, pace.due(self._elapsed(), end))
            line.generated_tokens = due
            await self.response.write(b"".join(tokens[sent:due]))
            line.sent_tokens = sent = due

    async def _spoil(self, fault: str) -> web.StreamResponse:
        if fault == "hang_mid":
            return await self.hang()
        if fault == "cut":
            if self._request.transport is not None:
                self._request.transport.close()
        else:
            await self.response.write_eof()
        self._line.ended = "error" if fault == "malformed" else "cut"
        return self.response

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Content-Type": content_type, SIMULATED_HEADER: "1"}
        if self._wire.id_header is not None:
            headers[self._wire.id_header] = f"req_{self._line.id}"
        if self.ruling is not None:
            headers |= self._wire.quota_headers(self.ruling, now=self._clock.now())
        return headers

    async def _begin(self, content_type: str, length: int | None = None) -> None:
        """Send the head of a response, whose body follows piece by piece."""
        self.response = web.StreamResponse(headers=self._headers(content_type))
        self.response.content_length = length
        await self.response.prepare(self._request)
        self._line.status = self.response.status

    async def _send(self, response: web.Response) -> None:
        """Send a whole response in one piece."""
        self.response = response
        await response.prepare(self._request)
        self._line.status = response.status
        await response.write_eof()

    async def _wait(self, moment: float) -> None:
        seconds = moment - self._elapsed()
        if seconds > 0:
            await self._clock.sleep(seconds)

    def _elapsed(self) -> float:
        return self._clock.elapsed() - self._started

    def _complete(self, reply: Reply) -> None:
        self._line.usage_reported = self._line.input_reported = reply.report_usage
        self._line.ended = "complete"
