"""Asking models through Millrace from another service."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, Unpack

from aiokafka import AIOKafkaProducer

from millrace.client.answer import Answer, Clock, utc_now
from millrace.client.asking import Asking, embedding_request, request_for
from millrace.client.connection import KafkaConnection
from millrace.client.kafka import broker_errors
from millrace.client.pieces import Position
from millrace.client.replies import Replies
from millrace.schemas.cancellation import Cancellation
from millrace.schemas.errors import BrokerError, PipelineError
from millrace.schemas.ids import NewId, uuid7
from millrace.schemas.record import Record
from millrace.schemas.request import Request
from millrace.schemas.response import Response
from millrace.schemas.vocabulary import EnsembleMode

DEFAULT_SECONDS = 120.0
"""The deadline of a request that names none."""

GRACE_SECONDS = 15.0
"""How long after its deadline the end of a request is still waited for."""

_ABANDON_SECONDS = 5.0
_DRAWS = 10_000


class Millrace:
    """A client of a running pipeline; an async context manager, safe for many requests at once.

    Answers to all of them come through one consumer. Requests go out with all replicas
    acknowledging. A request that nobody waits for any more (its task was cancelled, its answer
    closed) is cancelled in the pipeline.

    `listen_partitions` bounds how many partitions of the replies this process reads: with many
    processes, each would otherwise read everybody's tokens. A few are enough; the ids that the
    client makes are chosen to fit, and others work as well.
    """

    def __init__(
        self,
        servers: str | Sequence[str] | KafkaConnection,
        *,
        listen_partitions: int | None = None,
        cancel_abandoned: bool = True,
        clock: Clock = utc_now,
        new_id: NewId = uuid7,
    ) -> None:
        self._connection = (
            servers
            if isinstance(servers, KafkaConnection)
            else KafkaConnection.model_validate({"bootstrap_servers": servers})
        )
        self._listen_partitions = listen_partitions
        self._cancel_abandoned = cancel_abandoned
        self._clock = clock
        self._new_id = new_id
        self._requests = f"{self._connection.topic_prefix}requests"
        self._cancellations = f"{self._connection.topic_prefix}cancellations"
        self._producer: Any = None
        self._replies: Replies | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], **options: Any) -> Self:
        """A client by the pipeline's own variables, such as `KAFKA_BOOTSTRAP_SERVERS`."""
        return cls(KafkaConnection.from_environment(environ), **options)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            BrokerError: Kafka cannot be reached, or the topics are not there.
            ConfigurationError: The login is not complete.
        """
        producer = AIOKafkaProducer(
            **self._connection.client_kwargs(), acks="all", enable_idempotence=True
        )
        replies = Replies(
            connection=self._connection,
            partitions_of=producer.partitions_for,
            partitions=self._listen_partitions,
            new_id=self._new_id,
        )
        try:
            with broker_errors("connect"):
                await producer.start()
            await replies.start()
        except BaseException:
            await producer.stop()
            raise
        self._producer, self._replies = producer, replies
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._replies is not None:
            await self._replies.stop()
        await self._producer.stop()

    async def complete(self, prompt: str | None = None, **options: Unpack[Asking]) -> Response:
        """Ask, and wait for the terminal record.

        Raises:
            RequestNotCompletedError: It ended otherwise than completed; the error holds the record.
            InvalidEventError: The options make no valid request.
            NoReplyError: No terminal record came in time.
            BrokerError: Kafka did not take the request, or the replies cannot be read.
        """
        async with await self._ask(request_for(prompt, options), options) as answer:
            return await answer.completed()

    async def stream(
        self, prompt: str | None = None, *, member: int | None = None, **options: Unpack[Asking]
    ) -> Answer:
        """Ask, and follow the answer while it is made; of all members, or of one.

        Raises:
            InvalidEventError: The options make no valid request.
            BrokerError: Kafka did not take the request, or the replies cannot be read.
        """
        request = request_for(prompt, options).model_copy(update={"stream": True})
        return await self._ask(request, options, member=member)

    async def ensemble(
        self,
        prompt: str | None = None,
        *,
        members: int = 3,
        mode: EnsembleMode = "vote",
        quorum: int | None = None,
        **options: Unpack[Asking],
    ) -> Response:
        """Ask several models on different providers and join their answers.

        Raises:
            PipelineError: As `complete`.
        """
        route = {"strategy": "ensemble", "members": members, "mode": mode, "quorum": quorum}
        request = request_for(prompt, options, route=route)
        async with await self._ask(request, options) as answer:
            return await answer.completed()

    async def delegate(
        self, prompt: str | None = None, *, max_parts: int | None = None, **options: Unpack[Asking]
    ) -> Response:
        """Have a model split the work, others do the parts, and one join them.

        Raises:
            PipelineError: As `complete`.
        """
        route = {"strategy": "delegate", "max_parts": max_parts}
        async with await self._ask(request_for(prompt, options, route=route), options) as answer:
            return await answer.completed()

    async def embed(
        self, inputs: Sequence[str], *, dimensions: int | None = None, **options: Unpack[Asking]
    ) -> Response:
        """Turn texts into vectors: `response.embeddings`, in the order of the inputs.

        Raises:
            PipelineError: As `complete`.
        """
        request = embedding_request(inputs, dimensions, options)
        async with await self._ask(request, options) as answer:
            return await answer.completed()

    async def send(
        self,
        request: Request,
        *,
        timeout_seconds: float | None = None,
        member: int | None = None,
        since: datetime | None = None,
    ) -> Answer:
        """Send a request as it is, and follow its answer.

        With `since`, the id may have been used before: what came for it from then on is read
        first, so that a request sent again after a crash finds the answer it had already.

        Raises:
            BrokerError: Kafka did not take the request, or the replies cannot be read.
        """
        replies = self._running()
        request_id = request.request_id or self._fitting_id(replies)
        deadline = request.deadline
        if deadline is None:
            deadline = self._clock() + timedelta(seconds=timeout_seconds or DEFAULT_SECONDS)
        request = request.model_copy(update={"request_id": request_id, "deadline": deadline})
        answer = self._answer(
            request_id,
            wait_until=deadline + timedelta(seconds=GRACE_SECONDS),
            wants_pieces=request.stream,
            member=member,
        )
        await replies.expect(answer, since=since)
        try:
            await self._publish(self._requests, request, key=request.conversation_id or request_id)
        except BaseException:
            await answer.aclose()
            raise
        return answer

    async def follow(
        self,
        request_id: str,
        *,
        since: datetime,
        after: Position | None = None,
        member: int | None = None,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Follow the answer to a request that was sent earlier, perhaps by another process.

        `since`: a time before it was sent. `after`: how far its pieces were taken, to go on there.

        Raises:
            BrokerError: The replies cannot be read.
        """
        wait = None
        if timeout_seconds is not None:
            wait = self._clock() + timedelta(seconds=timeout_seconds)
        answer = self._answer(request_id, wait_until=wait, after=after, member=member)
        await self._running().expect(answer, since=since)
        return answer

    async def cancel(
        self, request_id: str, *, members: Sequence[int] | None = None, reason: str = ""
    ) -> None:
        """Stop the work on a request, or on some of its members.

        Raises:
            BrokerError: Kafka did not take the cancellation.
        """
        cancellation = Cancellation(
            request_id=request_id,
            members=None if members is None else tuple(members),
            reason=reason,
            cancelled_at=self._clock(),
        )
        await self._publish(self._cancellations, cancellation, key=request_id)

    async def _ask(self, request: Request, options: Asking, member: int | None = None) -> Answer:
        return await self.send(
            request,
            timeout_seconds=options.get("timeout_seconds"),
            member=member,
            since=options.get("since"),
        )

    def _answer(
        self,
        request_id: str,
        *,
        wait_until: datetime | None,
        after: Position | None = None,
        member: int | None = None,
        wants_pieces: bool = True,
    ) -> Answer:
        return Answer(
            request_id,
            wait_until=wait_until,
            abandon=self._abandoning(request_id),
            forget=self._running().forget,
            after=after,
            member=member,
            wants_pieces=wants_pieces,
            clock=self._clock,
        )

    def _abandoning(self, request_id: str) -> Callable[[], Any]:
        async def abandon() -> None:
            if not self._cancel_abandoned:
                return
            # Who leaves does not wait for a broker that is away; the deadline ends the request.
            with suppress(PipelineError, TimeoutError):
                async with asyncio.timeout(_ABANDON_SECONDS):
                    await self.cancel(request_id, reason="nobody waits for the answer any more")

        return abandon

    def _running(self) -> Replies:
        if self._replies is None:
            raise BrokerError("the client is not connected: use it as an async context manager")
        return self._replies

    def _fitting_id(self, replies: Replies) -> str:
        for _ in range(_DRAWS):
            request_id = self._new_id()
            if replies.takes(request_id):
                return request_id
        return self._new_id()

    async def _publish(self, topic: str, record: Record, *, key: str) -> None:
        with broker_errors(f"write to {topic!r}"):
            await self._producer.send_and_wait(
                topic,
                value=record.model_dump_json(exclude_defaults=True).encode(),
                key=key.encode(),
                headers=record.kafka_headers(),
            )
