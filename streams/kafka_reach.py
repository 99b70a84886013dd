"""Find out why no broker could be reached."""

from collections.abc import Mapping
from typing import Any

from aiokafka.conn import AIOKafkaConnection

from millrace.schemas.errors import BrokerError
from millrace.streams.kafka_errors import kafka_errors


async def check_reachable(client_kwargs: Mapping[str, Any]) -> None:
    """Log in to one of the bootstrap servers and leave again.

    aiokafka's clients only log why a server refused them, and say that they could not bootstrap;
    this says why. `client_kwargs` are those of `KafkaSettings.client_kwargs()`.

    Raises:
        BrokerError: No server could be reached; names what the last one said.
    """
    kwargs = dict(client_kwargs)
    servers = kwargs.pop("bootstrap_servers")
    problem: BrokerError | None = None
    for server in servers:
        host, _, port = server.rpartition(":")
        connection = AIOKafkaConnection(host.strip("[]"), int(port), **kwargs)
        try:
            with kafka_errors(f"connect to {server}"):
                await connection.connect()
        except BrokerError as error:
            problem = error
        else:
            return
        finally:
            connection.close()
    if problem is not None:
        raise problem
