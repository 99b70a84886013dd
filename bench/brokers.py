"""A broker for a benchmark: real Kafka where it can run, else the embedded one."""

import asyncio
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.children import Child, ChildFailedError, python, say_ready, until_stdin_closes
from millrace.streams.embedded.broker import EmbeddedBroker
from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.kafka_topic_admin import KafkaTopicAdmin
from millrace.streams.topic_admin import create_missing
from millrace.streams.topics import TopicSpec

KAFKA_SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "kafka.py"


@dataclass(frozen=True, slots=True)
class Broker:
    """Where it takes connections, and what it is."""

    bootstrap_servers: str
    name: str
    embedded: bool = False

    def kafka_settings(self, **more: object) -> KafkaSettings:
        """Settings for it, with others of the caller's."""
        servers = {"bootstrap_servers": self.bootstrap_servers}
        settings = KafkaSettings.model_validate(servers | more)
        return settings.on_embedded(self.bootstrap_servers) if self.embedded else settings


@contextmanager
def broker_for(given: str | None, *, cores: set[int], need_real: bool = False) -> Iterator[Broker]:
    """Use the broker that was given, or run one on these cores while the block runs.

    Raises:
        ChildFailedError: Kafka cannot run here, and the embedded broker will not do.
    """
    if given is not None:
        yield Broker(given, f"the broker at {given}")
        return
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        port = str(_free_port())
        command: list[str | Path] = [sys.executable, KAFKA_SCRIPT, "run", "--json", "--until-eof"]
        try:
            kafka = Child([*command, "--data", folder, "--port", port], cores=cores).__enter__()
        except ChildFailedError:
            if need_real:
                raise
            kafka = None
        if kafka is not None:
            try:
                yield Broker(kafka.said["bootstrap_servers"], "a real Apache Kafka")
            finally:
                kafka.__exit__(None, None, None)
            return
    with Child(python("brokers"), cores=cores) as embedded:
        address = embedded.said["bootstrap_servers"]
        yield Broker(address, "the embedded broker (no real Kafka to be had)", embedded=True)


async def make_topics(broker: Broker, partitions: int, *names: str) -> None:
    """Make topics that are not there yet."""
    specs = [
        TopicSpec(name, "any", "a benchmark's records", (), partitions, None, "delete", None, 2**21)
        for name in names
    ]
    async with KafkaTopicAdmin(client_kwargs=broker.kafka_settings().client_kwargs()) as admin:
        await create_missing(admin, specs)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _run_embedded() -> None:
    async with EmbeddedBroker() as broker:
        say_ready(bootstrap_servers=broker.bootstrap_servers, pid=broker.pid)
        await until_stdin_closes()


if __name__ == "__main__":
    asyncio.run(_run_embedded())
