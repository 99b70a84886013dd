"""One consumer for the answers to all requests of a process."""

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from millrace.client.answer import Answer
from millrace.client.connection import KafkaConnection
from millrace.client.kafka import broker_errors
from millrace.client.key_hash import positive_hash
from millrace.schemas.chunk import Chunk
from millrace.schemas.errors import BrokerError, InvalidEventError, PipelineError
from millrace.schemas.ids import NewId
from millrace.schemas.response import Response

_POLL_MS = 200
_GROWTH_SECONDS = 30.0
"""How often new partitions of the topics are looked for."""

PartitionsOf = Callable[[str], Awaitable[Collection[int]]]
"""Tells which partitions a topic has."""

Task = Callable[[], Coroutine[Any, Any, None]]


class Replies:
    """Reads chunks and terminal records, and hands them to the answers that are expected.

    No consumer group: a process reads from where the topics end when it starts. It reads all
    partitions, or only as many as `partitions` says: requests whose ids it may choose are given
    ids of those (`takes`), and others are read besides once they are expected.
    """

    def __init__(
        self,
        *,
        connection: KafkaConnection,
        partitions_of: PartitionsOf,
        new_id: NewId,
        partitions: int | None = None,
    ) -> None:
        self._partitions_of = partitions_of
        self._new_id = new_id
        self._chunks = f"{connection.topic_prefix}chunks"
        self._responses = f"{connection.topic_prefix}responses"
        self._limit = partitions
        self._consumer = AIOKafkaConsumer(
            **connection.client_kwargs(), auto_offset_reset="earliest", enable_auto_commit=False
        )
        self._expected: dict[bytes, list[Answer]] = {}
        self._counts: dict[str, int] = {}
        self._read: set[TopicPartition] = set()
        self._home: dict[str, frozenset[int]] = {}
        self._tasks: asyncio.Queue[tuple[Task, asyncio.Future[None]]] = asyncio.Queue()
        self._ending: dict[TopicPartition, list[tuple[int, int, Answer]]] = defaultdict(list)
        self._number = 0
        self._failure: PipelineError | None = None
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and note where the topics end now.

        Raises:
            BrokerError: Kafka cannot be reached, or the topics are not there.
        """
        with broker_errors("read the replies"):
            await self._consumer.start()
            try:
                await self._count_partitions()
                self._home = self._choose_home()
                await self._read_also(
                    TopicPartition(topic, number)
                    for topic, home in self._home.items()
                    for number in home
                )
            except BaseException:
                await self._consumer.stop()
                raise
        self._loop = asyncio.create_task(self._run())
        self._loop.add_done_callback(self._stopped)

    async def stop(self) -> None:
        """Read no more; what is still expected fails."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait((self._loop,))
        self._fail(BrokerError("the client was closed", retryable=False))
        await self._consumer.stop()

    def takes(self, request_id: str) -> bool:
        """Whether the answer to a request of this id comes on partitions that are read anyway."""
        return all(
            self._partition(topic, request_id).partition in home
            for topic, home in self._home.items()
        )

    async def expect(self, answer: Answer, *, since: datetime | None = None) -> None:
        """Hand over what comes for this request from now on, or what came since some time.

        Raises:
            BrokerError: The topics cannot be read.
        """
        if self._failure is not None:
            raise self._failure
        topics = [self._responses, *([self._chunks] if answer.wants_pieces else [])]
        places = {self._partition(topic, answer.request_id) for topic in topics}
        missing = places - self._read
        if missing:
            await self._in_loop(lambda: self._read_also(missing))
        self._expected.setdefault(answer.request_id.encode(), []).append(answer)
        if since is not None:
            try:
                await self._in_loop(lambda: self._rewind(places, since))
            except BaseException:
                self.forget(answer)
                raise

    def forget(self, answer: Answer) -> None:
        """Hand over nothing more to this answer."""
        key = answer.request_id.encode()
        left = [each for each in self._expected.get(key, ()) if each is not answer]
        if left:
            self._expected[key] = left
        else:
            self._expected.pop(key, None)

    async def _in_loop(self, task: Task) -> None:
        """Have something done between two fetches: only then positions may be moved."""
        if self._failure is not None:
            raise self._failure
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks.put_nowait((task, done))
        await done

    async def _run(self) -> None:
        try:
            with broker_errors("read the replies"):
                await self._read_on()
        except PipelineError as error:
            self._fail(error)

    def _stopped(self, loop: "asyncio.Task[None]") -> None:
        error = None if loop.cancelled() else loop.exception()
        if error is not None:
            self._fail(PipelineError(f"the replies are not read any more: {error!r}"))

    async def _read_on(self) -> None:
        clock = asyncio.get_running_loop().time
        look_at = clock() + _GROWTH_SECONDS
        ended: list[Answer] = []
        while True:
            await self._do_tasks()
            if clock() >= look_at:
                await self._grow()
                look_at = clock() + _GROWTH_SECONDS
            batches = await self._consumer.getmany(timeout_ms=_POLL_MS)
            for records in batches.values():
                for record in records:
                    answers = self._expected.get(record.key)
                    if answers and self._take(answers, record):
                        ended += answers
            if ended and await self._note_ends(ended):
                ended = []
            await self._end_those_read()

    async def _do_tasks(self) -> None:
        while not self._tasks.empty():
            task, done = self._tasks.get_nowait()
            try:
                with broker_errors("read the replies"):
                    await task()
            except PipelineError as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(None)

    def _take(self, answers: list[Answer], record: Any) -> bool:
        """Hand a record over; true when it is the terminal record."""
        headers = tuple(record.headers)
        # Records that cannot be read are none of the pipeline's.
        with suppress(InvalidEventError):
            if record.topic == self._chunks:
                chunk = Chunk.decode(record.value or b"", headers)
                for answer in answers:
                    answer.take_chunk(chunk)
                return False
            response = Response.decode(record.value or b"", headers)
            for answer in answers:
                answer.take_response(response)
            return True
        return False

    async def _note_ends(self, answers: list[Answer]) -> bool:
        """Find out how far chunks have to be read: all of a request's lie before its end.

        False when the broker is away: then it is to be asked again.
        """
        streamed = [answer for answer in answers if answer.wants_pieces]
        for answer in answers:
            if not answer.wants_pieces:
                answer.end()
        places = {answer: self._partition(self._chunks, answer.request_id) for answer in streamed}
        if not places:
            return True
        try:
            ends = await self._consumer.end_offsets(set(places.values()))
        except KafkaError as error:
            if not error.retriable and not isinstance(error, KafkaTimeoutError):
                raise
            return False
        for answer, place in places.items():
            self._number += 1
            heapq.heappush(self._ending[place], (ends[place], self._number, answer))
        return True

    async def _end_those_read(self) -> None:
        for place, ending in list(self._ending.items()):
            position = await self._consumer.position(place)
            while ending and ending[0][0] <= position:
                heapq.heappop(ending)[2].end()
            if not ending:
                del self._ending[place]

    async def _count_partitions(self) -> None:
        there = await self._consumer.topics()
        for topic in (self._chunks, self._responses):
            if topic not in there:
                raise BrokerError(
                    f"there is no topic {topic!r}: make it with `millrace topics --create`, or "
                    "set the prefix that the pipeline uses",
                    retryable=False,
                )
            self._counts[topic] = len(await self._partitions_of(topic))

    def _choose_home(self) -> dict[str, frozenset[int]]:
        """All partitions, or those that a few ids happen to fall on: each process has others."""
        if self._limit is None:
            return {topic: frozenset(range(count)) for topic, count in self._counts.items()}
        ids = [self._new_id() for _ in range(self._limit)]
        return {
            topic: frozenset(self._partition(topic, each).partition for each in ids)
            for topic in self._counts
        }

    async def _grow(self) -> None:
        """Read partitions that were added to the topics, from their beginning."""
        before = dict(self._counts)
        try:
            await self._count_partitions()
            added = {
                TopicPartition(topic, number)
                for topic, count in self._counts.items()
                for number in range(before[topic], count)
            }
            if added:
                await self._read_also(added, from_beginning=True)
        except KafkaError:
            # Asked again in a while; the fetches find out whether the broker is gone for good.
            self._counts = before

    async def _read_also(
        self, partitions: Iterable[TopicPartition], *, from_beginning: bool = False
    ) -> None:
        """Read further partitions; those read so far go on where they are."""
        consumer = self._consumer
        added = set(partitions) - self._read
        positions = {place: await consumer.position(place) for place in self._read}
        find = consumer.beginning_offsets if from_beginning else consumer.end_offsets
        positions |= await find(added)
        self._read |= added
        consumer.assign(self._read)
        for place, offset in positions.items():
            consumer.seek(place, offset)

    async def _rewind(self, places: Iterable[TopicPartition], since: datetime) -> None:
        """Read again from some time on; the answers know what they have had."""
        consumer = self._consumer
        places = list(places)
        moment = int(since.timestamp() * 1000)
        found = await consumer.offsets_for_times(dict.fromkeys(places, moment))
        oldest = await consumer.offsets_for_times(dict.fromkeys(places, 0))
        for place in places:
            if found.get(place) is not None:
                consumer.seek(place, min(found[place].offset, await consumer.position(place)))
            elif oldest.get(place) is None:
                # Nothing there, or a broker without an index of times.
                first = await consumer.beginning_offsets([place])
                consumer.seek(place, first[place])

    def _partition(self, topic: str, request_id: str) -> TopicPartition:
        """Where the pipeline's producers put a request's records (Kafka's default partitioner)."""
        hashed = positive_hash(request_id.encode())
        return TopicPartition(topic, hashed % self._counts[topic])

    def _fail(self, error: PipelineError) -> None:
        self._failure = error
        for answers in self._expected.values():
            for answer in answers:
                answer.fail(error)
        self._expected.clear()
        while not self._tasks.empty():
            _, done = self._tasks.get_nowait()
            if not done.done():
                done.set_exception(error)
