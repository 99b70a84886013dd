"""Pipelines on a real Kafka, whose parts these tests kill."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from broker_under_test import BrokerUnderTest
from kafka_process import KafkaProcess
from pipeline_process import RoleProcess
from pipeline_under_test import Pipeline, pipeline_settings

from millrace.streams.kafka_settings import KafkaSettings


@pytest.fixture
def own_broker(kafka_process: KafkaProcess, topic_prefix: str) -> BrokerUnderTest:
    """A real Kafka of the test's own, behind `kafka_process`."""
    settings = KafkaSettings(
        bootstrap_servers=(kafka_process.bootstrap_servers,),
        topic_prefix=topic_prefix,
        partitions=2,
    )
    return BrokerUnderTest(settings, None)


class Roles:
    """Makes processes that play roles of a pipeline."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, pipeline: Pipeline, roles: str) -> RoleProcess:
        """A process with these roles, on the pipeline's settings."""
        tree = pipeline_settings(pipeline.broker, pipeline.simulator.url, self._folder)
        return RoleProcess(tree, folder=self._folder, roles=roles)


@pytest.fixture
def role_process(tmp_path: Path) -> Roles:
    """Makes processes for the roles that a test wants to kill."""
    return Roles(tmp_path)


class Store:
    """A ClickHouse behind HTTP, in a process that can be frozen."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process = process
        self.url = f"http://millrace:secret@127.0.0.1:{port}"

    def freeze(self) -> None:
        """SIGSTOP it: connections are taken and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT it."""
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A ClickHouse of the test's own."""
    script = Path(__file__).parents[1] / "contracts" / "sinks" / "clickhouse_bridge.py"
    certificate = tmp_path / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "engine"), "secret", str(certificate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        running = Store(process, int(process.stdout.readline().split()[0]))
        yield running
        running.thaw()
        process.stdin.close()
        process.wait(timeout=30)
