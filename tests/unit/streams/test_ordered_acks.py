"""Acknowledging events in order, once everything made from them is safe."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_doubles import until

from millrace.schemas.errors import BrokerError, PipelineError
from millrace.streams.ordered_acks import OrderedAcks, Processed, StateWrite


@dataclass
class Message:
    """Where an event lies."""

    offset: int
    topic: str = "t"
    partition: int = 0


@dataclass
class Event:
    """An event that notes its acknowledgement."""

    message: Message
    acked: list[int]

    def ack(self) -> None:
        self.acked.append(self.message.offset)


@dataclass
class Table:
    """A table of states that notes what is written to its changelog."""

    writes: list[tuple[bytes, bytes | None, int]] = field(default_factory=list)
    deliveries: list["asyncio.Future[Any]"] = field(default_factory=list)

    async def write(
        self, key: bytes, stored: bytes | None, *, partition: int
    ) -> "asyncio.Future[Any]":
        self.writes.append((key, stored, partition))
        self.deliveries.append(asyncio.get_running_loop().create_future())
        return self.deliveries[-1]


class Bench:
    """A queue with whatever it acknowledged and whichever failures it told."""

    def __init__(self, limit: int = 100) -> None:
        self.acked: list[int] = []
        self.failures: list[PipelineError] = []
        self.table = Table()
        self.acks = OrderedAcks(limit=limit, on_failure=self.failures.append)

    async def add(
        self,
        offset: int,
        *,
        outputs: int = 1,
        state: bytes | None = None,
        partition: int = 0,
        records: int = 1,
    ) -> "list[asyncio.Future[Any]]":
        """Add an event with so many outputs; returns their deliveries."""
        loop = asyncio.get_running_loop()
        deliveries: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(outputs)]
        states = [] if state is None else [StateWrite(self.table, b"k", state)]  # type: ignore[arg-type]
        event: Any = Event(Message(offset, partition=partition), self.acked)
        await self.acks.add(Processed(event, deliveries, states, records))
        return deliveries

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        """Let it work within the block."""
        task = asyncio.create_task(self.acks.run())
        yield task
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_later_event_waits_for_an_earlier_one() -> None:
    """However long that one takes."""
    bench = Bench()
    async with bench.running():
        (first,) = await bench.add(0)
        (second,) = await bench.add(1)
        second.set_result(None)
        await settle()
        assert bench.acked == []

        first.set_result(None)
        await until(lambda: len(bench.acked) == 2)

    assert bench.acked == [0, 1]


async def test_sent_then_remembered_then_acknowledged() -> None:
    """A state reaches the changelog only after what it vouches for, the ack only after it."""
    bench = Bench()
    async with bench.running():
        (output,) = await bench.add(0, state=b"s")
        await settle()
        assert bench.table.writes == []

        output.set_result(None)
        await until(lambda: bool(bench.table.writes))
        await settle()
        assert bench.acked == []

        bench.table.deliveries[0].set_result(None)
        await until(lambda: bench.acked == [0])

    assert bench.table.writes == [(b"k", b"s", 0)]


async def test_states_of_partitions_held_elsewhere_are_not_written() -> None:
    """Their owner has its own."""
    bench = Bench()
    bench.acks.assign({("t", 1)})
    async with bench.running():
        (output,) = await bench.add(0, state=b"s", partition=0)
        output.set_result(None)
        await until(lambda: bench.acked == [0])

    assert bench.table.writes == []


@pytest.mark.parametrize(
    "error", [BrokerError("lost"), MessageSizeTooLargeError("as the client library says it")]
)
async def test_the_first_failed_delivery_is_told_and_ends_all_acknowledging(
    error: Exception,
) -> None:
    """From then on everything is read again after a restart; whoever raised it."""
    bench = Bench()
    async with bench.running() as task:
        deliveries = [(await bench.add(offset))[0] for offset in range(3)]
        deliveries[0].set_result(None)
        deliveries[1].set_exception(error)
        deliveries[2].set_result(None)
        await asyncio.wait((task,), timeout=30)

    assert bench.acked == [0]
    assert [type(each) for each in bench.failures] == [BrokerError]


async def test_a_state_that_cannot_be_written_ends_it_too() -> None:
    """Its event stays unacknowledged."""
    bench = Bench()
    async with bench.running() as task:
        (output,) = await bench.add(0, state=b"s")
        output.set_result(None)
        await until(lambda: bool(bench.table.deliveries))
        bench.table.deliveries[0].set_exception(BrokerError("lost"))
        await asyncio.wait((task,), timeout=30)

    assert (bench.acked, len(bench.failures)) == ([], 1)


async def test_it_holds_the_stream_back_when_too_much_is_under_way() -> None:
    """`add` waits, so that memory stays bounded."""
    bench = Bench(limit=2)
    async with bench.running():
        outputs = [(await bench.add(offset))[0] for offset in range(2)]
        waiting = asyncio.create_task(bench.add(2))
        await settle()
        assert not waiting.done()

        outputs[0].set_result(None)
        await until(waiting.done)


async def test_a_run_of_records_counts_for_all_of_them() -> None:
    """However few events they come in."""
    bench = Bench(limit=10)
    async with bench.running():
        (first,) = await bench.add(9, records=10)
        waiting = asyncio.create_task(bench.add(10))
        await settle()
        assert not waiting.done()

        first.set_result(None)
        await until(waiting.done)


@given(order=st.permutations(range(6)), outputs=st.lists(st.integers(0, 3), min_size=6, max_size=6))
@settings(max_examples=40, deadline=None)
def test_whatever_the_order_of_deliveries_acks_are_a_prefix(
    order: list[int], outputs: list[int]
) -> None:
    """After each delivery exactly those are acknowledged that have nothing open before them."""

    async def run() -> None:
        bench = Bench()
        async with bench.running():
            deliveries = [
                await bench.add(offset, outputs=number) for offset, number in enumerate(outputs)
            ]
            for offset in order:
                for delivery in deliveries[offset]:
                    delivery.set_result(None)
                await settle()
                expected = []
                for each, pending in enumerate(deliveries):
                    if not all(delivery.done() for delivery in pending):
                        break
                    expected.append(each)
                assert bench.acked == expected
            assert bench.acked == list(range(6))

    asyncio.run(run())
