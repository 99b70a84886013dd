"""The conversation of a call with its provider: what is asked, and what comes back as it comes."""

import asyncio
import time
from dataclasses import dataclass

import structlog

from millrace.providers.protocol import (
    Completion,
    ModelRequest,
    ModelServer,
    ReasoningDelta,
    TextDelta,
    UsageSoFar,
)
from millrace.providers.rate_limit import Reservation
from millrace.schemas.call import Call
from millrace.schemas.chunk import ToolCallDelta
from millrace.schemas.errors import ErrorInfo, PipelineError, ProviderError
from millrace.schemas.vocabulary import AttemptStatus
from millrace.streams.call_limit import CallLimit
from millrace.streams.cancellations import Cancellations
from millrace.streams.chunk_stream import ChunkStream
from millrace.streams.dead_letters import Clock
from millrace.streams.embedding_exchange import embed
from millrace.streams.places import Place
from millrace.streams.reckoning import Reply
from millrace.streams.unmade import Ending, cancelled, expired

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Asks one provider entry; ends when the deadline passes or the work is cancelled.

    Whatever the provider does is an ending, never an error that is raised: a fault in one call
    must not end those beside it.
    """

    provider: ModelServer
    cancellations: Cancellations
    clock: Clock

    async def hold(
        self,
        call: Call,
        *,
        reply: Reply,
        chunks: ChunkStream,
        quota: Reservation,
        place: Place | None = None,
    ) -> tuple[AttemptStatus, ErrorInfo | None]:
        """Ask and read until the answer is whole, or is not going to be; `reply` is what came.

        With a `place`, asks once that is taken; who expires or is cancelled until then asks nobody.

        Raises:
            BrokerError: A chunk cannot be written.
        """
        job = call.job
        limit = CallLimit((job.deadline - self.clock()).total_seconds())
        try:
            with self.cancellations.watching(job.request_id, call.member, limit.stop):
                if place is not None:
                    await place.take()
                over = self._over(call)
                if over is not None:
                    return over
                reply.asked_at = time.perf_counter()
                await self._read(call, reply=reply, chunks=chunks, quota=quota)
        except asyncio.CancelledError:
            cause = limit.cause()
            if cause is None:
                raise
            return ("cancelled", cancelled()) if cause == "stopped" else ("expired", expired())
        except ProviderError as error:
            reply.key_alias = error.key_alias
            log.info(
                "call.failed",
                request_id=job.request_id,
                provider=call.target.provider,
                model=call.target.model,
                attempt=call.attempt,
                key=error.key_alias,
                code=error.code,
                error=error.message,
            )
            reply.failure = error
            return "failed", error.info()
        except PipelineError:
            raise
        except Exception as error:
            # A fault of ours must end this attempt, not the calls beside it.
            log.exception("call.fault", request_id=job.request_id, provider=call.target.provider)
            message = f"a fault in Millrace ({type(error).__name__}); please report it"
            return "failed", ErrorInfo(code="internal_error", message=message)
        finally:
            limit.close()
        if reply.completion is None:
            message = "the adapter ended without a completion"
            return "failed", ErrorInfo(code="reply_invalid", message=message, retryable=True)
        return "completed", None

    def _over(self, call: Call) -> Ending | None:
        """Whether its time was up, or it was cancelled, before it was sent."""
        job = call.job
        if self.cancellations.covers(job.request_id, call.member):
            return "cancelled", cancelled()
        return ("expired", expired()) if self.clock() >= job.deadline else None

    async def _read(
        self, call: Call, *, reply: Reply, chunks: ChunkStream, quota: Reservation
    ) -> None:
        if call.inputs:
            reply.completion = await embed(self.provider, call, quota=quota)
            return
        request = ModelRequest(
            model=call.target.model,
            messages=call.messages,
            parameters=call.parameters,
            tools=call.tools,
            output=call.output,
            stream=call.stream,
            token_probabilities=_wants_probabilities(call),
            quota=quota,
        )
        events = self.provider.ask(request)
        try:
            async for event in events:
                if isinstance(event, Completion):
                    reply.completion = event
                    continue
                if isinstance(event, UsageSoFar):
                    reply.usage = event.usage
                    continue
                if reply.first_token_at is None:
                    reply.first_token_at = time.perf_counter()
                reply.deltas += 1
                if isinstance(event, TextDelta):
                    reply.text.append(event.text)
                    await chunks.add(text=event.text)
                elif isinstance(event, ReasoningDelta):
                    reply.reasoning.append(event.text)
                    await chunks.add(reasoning=event.text)
                else:
                    reply.tool_arguments.append(event.arguments)
                    piece = ToolCallDelta(
                        index=event.index,
                        id=event.id,
                        name=event.name,
                        arguments=event.arguments,
                    )
                    await chunks.add(tool_call=piece)
        finally:
            await events.aclose()


def _wants_probabilities(call: Call) -> bool:
    rule = call.plan.cascade
    return rule is not None and rule.confidence == "logprobs" and call.role == "answer"
