"""Faust's Kafka consumer, without four tasks for each record.

Faust hands each record to its streams racing three events that hardly ever happen, each in a
task of its own. Nearly always the record's queue has room, so that the hand-over ends without
waiting: here it is tried first, and the race is run only for one that has to wait.
"""

import asyncio
import inspect
import types
from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any

from mode.services import WaitResults

from millrace.streams.threadless_consumer import ThreadlessConsumer


class EagerConsumer(ThreadlessConsumer):
    """A consumer whose `wait_first` begins with what usually ends at once."""

    async def wait_first(
        self,
        *awaited: Any,
        timeout: Any = None,  # noqa: ASYNC109 (Faust's signature)
    ) -> WaitResults:
        """As Faust's: wait for the first of these, or for the consumer's end."""
        first, *others = awaited
        if not inspect.iscoroutine(first) or self.should_stop:
            return await super().wait_first(*awaited, timeout=timeout)
        try:
            waits_for = first.send(None)
        except StopIteration as ended:
            _close(others)
            return WaitResults([first], [ended.value], stopped=False)
        except BaseException:
            _close(others)
            raise
        return await super().wait_first(_finish(first, waits_for), *others, timeout=timeout)


def _close(never_begun: Iterable[Any]) -> None:
    for each in never_begun:
        if inspect.iscoroutine(each):
            each.close()


async def _finish(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    # A real coroutine: Faust does not take a generator for something that can be awaited.
    return await _go_on(begun, waits_for)


@types.coroutine
def _go_on(
    begun: Coroutine[Any, Any, Any], waits_for: "asyncio.Future[Any] | None"
) -> Generator[Any, Any, Any]:
    """Let another task go on with a coroutine that has begun and waits for something."""
    while True:
        try:
            sent = yield waits_for
        except BaseException as error:  # noqa: BLE001 (passed on, cancellation too)
            step: Callable[[Any], Any] = begun.throw
            argument: Any = error
        else:
            step, argument = begun.send, sent
        try:
            waits_for = step(argument)
        except StopIteration as ended:
            return ended.value
