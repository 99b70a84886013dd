"""Pipelines on a real Kafka, whose parts these tests kill."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme
from broker_under_test import BrokerUnderTest
from kafka_process import KafkaProcess
from pipeline_process import RoleProcess
from pipeline_under_test import Pipeline, pipeline_settings
from small_disk import on_a_small_disk

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
    """A ClickHouse behind HTTP, in a process that can be frozen, on a disk that may get full."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, disk: Path) -> None:
        self._process = process
        self._filler = Path(f"/proc/{process.pid}/root{disk}") / "filler"
        self.url = f"http://millrace:secret@127.0.0.1:{port}"

    def freeze(self) -> None:
        """SIGSTOP it: connections are taken and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT it."""
        self._process.send_signal(signal.SIGCONT)

    def fill_disk(self) -> None:
        """Take all the space there is."""
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass

    def free_disk(self) -> None:
        """Give it back."""
        self._filler.unlink()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A ClickHouse of the test's own."""
    with _running_store(tmp_path, ()) as running:
        yield running


@pytest.fixture
def store_on_a_small_disk(tmp_path: Path) -> Iterator[Store]:
    """One whose disk is so small that a test can fill it."""
    with _running_store(tmp_path, on_a_small_disk(tmp_path / "disk", size="96m")) as running:
        yield running


@contextmanager
def _running_store(folder: Path, begin: Sequence[str]) -> Iterator[Store]:
    script = Path(__file__).parents[1] / "contracts" / "sinks" / "clickhouse_bridge.py"
    certificate, disk = folder / "server.pem", folder / "disk"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with subprocess.Popen(
        [*begin, sys.executable, str(script), str(disk / "engine"), "secret", str(certificate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        running = Store(process, int(process.stdout.readline().split()[0]), disk)
        yield running
        running.thaw()
        process.stdin.close()
        process.wait(timeout=30)
