"""What becomes of waiting calls that later ones have overtaken, when their partition is given up.

A commit stops at the first call that is not done. To leave an overtaken call where it lies would
have everything begun after it read, made and paid again.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from millrace.schemas.errors import BrokerError
from millrace.streams.admission import Arrival
from millrace.streams.dead_letters import SetAside
from millrace.streams.offsets import Partition
from millrace.streams.publisher import Publisher

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaken:
    """Writes overtaken calls to their topic once more, under their key and as they were."""

    publisher: Publisher
    set_aside: SetAside
    _begun: dict[Partition, int] = field(default_factory=dict)
    """The highest offset of which the call was begun."""

    def begin(self, arrival: Arrival) -> None:
        """Note that a call was begun."""
        offset = arrival.source.offset
        if offset > self._begun.get(arrival.partition, -1):
            self._begun[arrival.partition] = offset

    def forget(self, partition: Partition) -> None:
        """Drop a partition that was taken away."""
        self._begun.pop(partition, None)

    async def pass_on(
        self, waiting: Sequence[Arrival], *, finish: Callable[[Partition, int], None]
    ) -> None:
        """Pass on what was overtaken, in the order given; the rest is read again where it lies.

        `finish` is called for each record that the broker then holds anew. What cannot be
        written is not finished, so that nothing is lost.
        """
        try:
            await asyncio.gather(*(self._pass_on(each, finish) for each in self._among(waiting)))
        except BrokerError as error:
            log.warning("calls.not_passed_on", error=error.message)

    def _among(self, waiting: Sequence[Arrival]) -> Iterable[Arrival]:
        """Those overtaken, each with the later calls of its conversation: they stay behind it."""
        conversations: set[str] = set()
        for arrival in waiting:
            conversation = arrival.call.job.conversation_id if arrival.call is not None else None
            overtaken = arrival.source.offset < self._begun.get(arrival.partition, -1)
            if overtaken or conversation in conversations:
                if conversation is not None:
                    conversations.add(conversation)
                yield arrival

    async def _pass_on(self, arrival: Arrival, finish: Callable[[Partition, int], None]) -> None:
        source = arrival.source
        if arrival.problem is not None:
            delivery = await self.set_aside(source, arrival.problem)
        else:
            delivery = await self.publisher.publish_bytes(
                source.topic, source.value, key=source.key, headers=source.headers
            )
        await delivery
        finish(arrival.partition, source.offset)
