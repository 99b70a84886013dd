"""Deliveries of records that share a batch."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, RequestTimedOutError
from aiokafka.structs import RecordMetadata

from millrace.streams.deliveries import BatchDelivery, all_delivered, ended

FIRST = RecordMetadata("t", 3, TopicPartition("t", 3), 40, 1, 0, 0)


def batch(records: int) -> tuple["asyncio.Future[Any]", list[BatchDelivery]]:
    """A batch under way, and its records' deliveries."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    return future, [BatchDelivery(future, index) for index in range(records)]


async def test_each_record_knows_where_it_lies() -> None:
    """The broker tells the place of the batch; the records follow one another."""
    future, deliveries = batch(3)
    future.set_result(FIRST)

    assert [(await each).offset for each in deliveries] == [40, 41, 42]


async def test_who_stops_waiting_stops_nobody_else() -> None:
    """A call that is broken off must not make its neighbours' records look lost."""
    future, (first, second) = batch(2)
    leaving = asyncio.ensure_future(all_delivered([first]))
    staying = asyncio.ensure_future(all_delivered([second]))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait((leaving,))
    future.set_result(FIRST)
    await staying

    assert leaving.cancelled()
    assert not future.cancelled()


async def test_a_failed_batch_fails_each_of_its_records() -> None:
    """Each with an error of its own, so that no traceback grows with the batch."""
    future, deliveries = batch(2)
    future.set_exception(RequestTimedOutError())
    found = []
    for each in deliveries:
        with pytest.raises(RequestTimedOutError) as raised:
            await each
        found.append(raised.value)

    assert found[0] is not found[1]
    assert all(each.done() and each.exception() is not None for each in deliveries)


@pytest.mark.parametrize("at_once", [True, False], ids=["failed before", "fails meanwhile"])
async def test_one_failure_among_many_is_raised(at_once: bool) -> None:
    """Whether it comes before the wait or within it."""
    good, (first,) = batch(1)
    bad, (second,) = batch(1)
    good.set_result(FIRST)
    waiting = None if at_once else asyncio.ensure_future(all_delivered([first, second]))
    await asyncio.sleep(0)
    bad.set_exception(RequestTimedOutError())

    with pytest.raises(KafkaError):
        await (waiting or all_delivered([first, second]))


async def test_the_end_can_be_waited_for_whatever_it_is() -> None:
    """And whoever asked to be told is told, with the delivery of that record."""
    future, (first, second) = batch(2)
    told: list[BatchDelivery] = []
    second.add_done_callback(told.append)
    waiting = asyncio.ensure_future(ended(first))
    await asyncio.sleep(0)
    future.set_exception(RequestTimedOutError())
    await waiting

    assert [second] == told
