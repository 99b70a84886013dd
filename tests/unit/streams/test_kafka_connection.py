"""A write to a connection that was reset is a lost connection, whatever the event loop calls it."""

import asyncio

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import IncompatibleBrokerVersion, KafkaConnectionError
from aiokafka.protocol.admin import ListGroupsRequest

from millrace.streams.kafka_connection import reconnect_after_resets


class ResetWriter:
    """As uvloop's transport behaves once the other side has reset the connection."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, _: bytes) -> None:
        raise RuntimeError("unable to perform operation; the handler is closed")

    def close(self) -> None:
        self.closed = True


async def test_a_write_after_a_reset_is_a_lost_connection() -> None:
    """The connection is closed, so that the client makes another; twice patched is once."""
    reconnect_after_resets()
    reconnect_after_resets()
    connection = AIOKafkaConnection("127.0.0.1", 1)
    connection._versions = {ListGroupsRequest.API_KEY: (0, 1)}
    writer = connection._writer = ResetWriter()
    connection._reader = asyncio.StreamReader()
    connection._read_task = asyncio.create_task(asyncio.sleep(0))

    with pytest.raises(KafkaConnectionError, match="the handler is closed"):
        connection.send(ListGroupsRequest())

    assert writer.closed
    assert not connection.connected()


async def test_a_broker_that_does_not_know_a_request_keeps_its_connection() -> None:
    """What aiokafka says of it goes through as it is, and nothing is closed."""
    reconnect_after_resets()
    connection = AIOKafkaConnection("127.0.0.1", 1)
    connection._versions = {}
    writer = connection._writer = ResetWriter()
    connection._reader = asyncio.StreamReader()
    connection._read_task = asyncio.create_task(asyncio.sleep(0))

    with pytest.raises(IncompatibleBrokerVersion):
        connection.send(ListGroupsRequest())

    assert not writer.closed
    connection.close()
