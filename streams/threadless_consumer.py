"""Faust's Kafka consumer without a thread of its own.

Faust 0.15.3 reads in a thread with its own event loop, so that heartbeats go on while a handler
blocks the main one. No handler blocks here, and the callers' consumers live on the main loop
anyway; what is left of the thread is its price. Each fetch and each commit crosses from one loop to
the other and back, by way of a socket, a queue and the interpreter's lock: measured in `bench/`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from mode.utils.futures import maybe_async

from millrace.streams.patient_consumer import PatientConsumer


class ThreadlessConsumer(PatientConsumer):
    """A consumer that reads on the event loop of its app."""

    def _new_consumer_thread(self) -> "_SameLoop":
        loop = asyncio.get_running_loop()
        return _SameLoop(self, loop=loop, thread_loop=loop, beacon=self.beacon)


class _SameLoop(AIOKafkaConsumerThread):  # type: ignore[misc]
    """What Faust takes for a thread: its service runs as a task, and calls to it are calls."""

    _serving: "asyncio.Task[None] | None" = None

    async def start(self) -> None:
        """Run; return once the consumer has started.

        Raises:
            Exception: As the consumer's `start`.
        """
        self._thread_started.set()
        running = self._thread_running = self.parent_loop.create_future()
        self._serving = asyncio.create_task(self._serve())
        # A failure has crashed the app by then, and comes out of the future above.
        self._serving.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await running
        finally:
            self._thread_running = None

    async def stop(self) -> None:
        """Stop the consumer; return once it has left its group."""
        await super().stop()
        if self._serving is not None:
            await asyncio.wait((self._serving,))

    async def on_thread_started(self) -> None:
        """Nothing: there is no queue of calls to be worked off."""

    async def call_thread(
        self, fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> Any:
        """Call it."""
        return await maybe_async(fun(*args, **kwargs))

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust's own says committed only where it opens transactions itself.
        consumer._isolation_level = transport.isolation_level  # noqa: SLF001
        return consumer

    async def _gather_remaining_tasks(self) -> None:
        """Leave them: the tasks of this loop are everybody's."""
