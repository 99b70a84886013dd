"""What becomes of records that were handed to a producer."""

import asyncio
import copy
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, Protocol

from millrace.providers.running_loop import running_loop


class Delivery(Protocol):
    """Ends when the broker has acknowledged a record; fails when it never will.

    Cancelling whoever awaits it does not take the record back.
    """

    def done(self) -> bool:
        """Whether it has ended."""
        ...

    def cancelled(self) -> bool:
        """Whether nobody will ever know."""
        ...

    def exception(self) -> BaseException | None:
        """Why it failed; None when the broker holds the record."""
        ...

    def add_done_callback(self, call: Callable[[Any], object], /) -> None:
        """Have the delivery handed to `call`, soon after its end."""
        ...

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end; where the record lies (aiokafka's `RecordMetadata`)."""
        ...


class BatchDelivery:
    """The delivery of one record of a batch, whose records share a single future."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: "asyncio.Future[Any]", index: int) -> None:
        self._batch = batch
        self._index = index

    def done(self) -> bool:
        """Whether the batch has been delivered or has failed."""
        return self._batch.done()

    def cancelled(self) -> bool:
        """Never: a batch is not given up."""
        return False

    def exception(self) -> BaseException | None:
        """Why the batch failed."""
        error = self._batch.exception()
        # A copy for each: raised several times, one would gather all their tracebacks.
        return None if error is None else copy.copy(error)

    def result(self) -> Any:
        """Where the record lies; raises when its batch has failed."""
        error = self.exception()
        if error is not None:
            raise error
        place = self._batch.result()
        return place and place._replace(offset=place.offset + self._index)

    def add_done_callback(self, call: Callable[[Any], object], /) -> None:
        """Have this delivery handed to `call`, soon after its end."""
        self._batch.add_done_callback(lambda _: call(self))

    def __await__(self) -> Generator[Any, None, Any]:
        # Not the future itself: whoever is cancelled while waiting would cancel it for all.
        if not self._batch.done():
            # Of the batch's loop: to ask for the running one is a system call in Python 3.11.
            ended = self._batch.get_loop().create_future()
            wake = partial(_wake, ended)
            self._batch.add_done_callback(wake)
            try:
                yield from ended
            finally:
                self._batch.remove_done_callback(wake)
        return self.result()


def _wake(waiting: "asyncio.Future[None]", _: object) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def all_delivered(deliveries: Iterable[Delivery]) -> None:
    """Wait until the broker has acknowledged all of them.

    Raises:
        KafkaError: One has failed; others may not have ended yet.
    """
    for delivery in deliveries:
        if not delivery.done():
            await delivery
        elif (error := delivery.exception()) is not None:
            raise error


async def ended(delivery: Delivery) -> None:
    """Wait for its end, whatever that is; being cancelled meanwhile leaves the delivery alone.

    As `asyncio.wait` for one, at a fraction of what that costs.
    """
    waiting = running_loop().create_future()
    delivery.add_done_callback(partial(_wake, waiting))
    await waiting
