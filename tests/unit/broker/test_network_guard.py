"""Unit tests cannot reach the network, however they try."""

import asyncio
import socket

import pytest
from network_guard import NetworkRefusedError


def test_a_unit_test_cannot_connect() -> None:
    """Neither with a socket nor with the short cut."""
    with pytest.raises(NetworkRefusedError), socket.socket() as sock:
        sock.connect(("127.0.0.1", 9))
    with pytest.raises(NetworkRefusedError):
        socket.create_connection(("127.0.0.1", 9))


def test_a_unit_test_cannot_listen() -> None:
    """A test that needs a server belongs elsewhere."""
    with pytest.raises(NetworkRefusedError), socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))


async def test_the_event_loop_cannot_either() -> None:
    """Its connections go through sockets too."""
    with pytest.raises(NetworkRefusedError):
        await asyncio.open_connection("localhost", 9)
