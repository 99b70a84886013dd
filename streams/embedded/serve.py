"""Serve an embedded broker until standard input closes or the parent is gone.

Started by `EmbeddedBroker` as `python -m millrace.streams.embedded.serve [PORT]`; the messages
are those of `control`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import uvloop
from pydantic import BaseModel

from millrace.schemas.errors import BrokerError, PipelineError
from millrace.streams.embedded import wire
from millrace.streams.embedded.control import Declare, Declared, Started
from millrace.streams.embedded.gateway import LOOPBACK, Gateway
from millrace.streams.embedded.mock_cluster import MockCluster

_PARENT_CHECK_SECONDS = 1.0


def main() -> int:
    """Run the broker; 0 when it was asked to end, 1 when it could not start."""
    # The parent decides when to end, after its own clients have drained.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(port))
        except PipelineError as error:
            sys.stderr.write(f"{error.message}\n")
            return 1
    return 0


async def _serve(port: int) -> None:
    parent = os.getppid()
    with MockCluster() as cluster:
        cluster.limit_versions(wire.VERSIONS)
        gateway = Gateway(cluster_port=cluster.port)
        try:
            port = await gateway.start(port=port)
        except OSError as error:
            raise BrokerError(
                f"the embedded broker cannot listen on port {port}: {error.strerror}; "
                "choose another, or 0 for any"
            ) from error
        cluster.advertise(LOOPBACK, port)
        _answer(Started(bootstrap_servers=f"{LOOPBACK}:{port}"))
        async for line in _lines(parent):
            _answer(_declare(cluster, Declare.model_validate_json(line)))
        await gateway.close()


def _declare(cluster: MockCluster, wish: Declare) -> Declared:
    try:
        return Declared(topic=wish.topic, created=cluster.declare(wish.topic, wish.partitions))
    except PipelineError as error:
        return Declared(topic=wish.topic, error=error.message)


def _answer(message: BaseModel) -> None:
    sys.stdout.write(message.model_dump_json() + "\n")
    sys.stdout.flush()


async def _lines(parent: int) -> AsyncIterator[bytes]:
    """Lines as they come; ends with the input, or when another process became the parent.

    The second matters where a sibling inherited the other end of the pipe and keeps it open.
    """
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    next_line = asyncio.ensure_future(reader.readline())
    while os.getppid() == parent:
        done, _ = await asyncio.wait({next_line}, timeout=_PARENT_CHECK_SECONDS)
        if not done:
            continue
        line = next_line.result()
        if not line:
            return
        yield line
        next_line = asyncio.ensure_future(reader.readline())
    next_line.cancel()


if __name__ == "__main__":
    sys.exit(main())
