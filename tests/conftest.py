"""Brokers for every test, and no network for unit tests."""

import gc
import os
import subprocess
import sys
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from broker_under_test import BrokerUnderTest
from kafka_process import KAFKA_SCRIPT, KafkaProcess, KafkaUnavailableError, free_port
from kafka_security import SecureKafka, secure_files
from machine_pauses import MachinePauses
from network_guard import UNIT, refuse_network
from parallel_groups import FileAndBroker, longest_first
from xdist.remote import Producer

from millrace.streams.embedded.broker import EmbeddedBroker
from millrace.streams.kafka_settings import KafkaSettings

FAULTS = Path(__file__).parent / "faults"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items[:] = longest_first(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileAndBroker:
    """Keep together what shares a pipeline."""
    return FileAndBroker(config, log)


@pytest.fixture(autouse=True)
def _no_network_in_unit_tests(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unit tests may not open sockets."""
    if UNIT in request.path.parents:
        refuse_network(monkeypatch)


@pytest.fixture(autouse=True)
def _remains_of_connections(request: pytest.FixtureRequest) -> Iterator[None]:
    """Kafka's client leaves connections that a broker broke off to the garbage collector.

    It would warn in the midst of some later test, so it runs where they are to be expected.
    """
    yield
    broken_off = {"kafka_process", "secure_kafka"} & set(request.fixturenames)
    if broken_off or FAULTS in request.path.parents:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture
def machine() -> Iterator[MachinePauses]:
    """Tells for how long the machine stood still in this test."""
    pauses = MachinePauses()
    yield pauses
    _ = pauses.longest


def _started(kafka: KafkaProcess) -> KafkaProcess:
    """Start it; where it cannot run, skip on a laptop and fail where everything must run."""
    try:
        kafka.start()
    except KafkaUnavailableError as error:
        _cannot(str(error))
    return kafka


def _cannot(reason: str) -> NoReturn:
    """Skip on a laptop, fail where everything must run."""
    told = f"no real Kafka for this test: {reason}"
    if os.environ.get("CI") == "true":
        pytest.fail(told)
    pytest.skip(f"{told} Or set MILLRACE_TEST_KAFKA=host:port to use one that runs.")


@pytest.fixture(scope="session")
def kafka_script() -> Path:
    """`scripts/kafka.py`, on a machine where it can run a broker."""
    done = subprocess.run(
        [sys.executable, str(KAFKA_SCRIPT), "fetch"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        _cannot(done.stderr.strip())
    return KAFKA_SCRIPT


@pytest.fixture(scope="session")
def kafka_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a real Apache Kafka: MILLRACE_TEST_KAFKA's, else one of these tests' own."""
    if given := os.environ.get("MILLRACE_TEST_KAFKA"):
        yield given
        return
    kafka = _started(KafkaProcess(data=tmp_path_factory.mktemp("kafka"), port=free_port()))
    yield kafka.bootstrap_servers
    kafka.stop()


@pytest.fixture
def kafka_process(tmp_path: Path) -> Iterator[KafkaProcess]:
    """A real Apache Kafka for one test, which may kill, freeze and restart it."""
    kafka = _started(KafkaProcess(data=tmp_path / "kafka", port=free_port()))
    yield kafka
    kafka.stop()


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A real Apache Kafka that asks for passwords or certificates."""
    folder = tmp_path_factory.mktemp("secure-kafka")
    plain = free_port()
    files = secure_files(
        folder, plain=plain, sasl_ssl=free_port(), ssl=free_port(), sasl=free_port()
    )
    kafka = _started(
        KafkaProcess(
            data=folder / "data", port=plain, properties=files.properties, scram=files.scram
        )
    )
    yield files.kafka
    kafka.stop()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}."


@pytest.fixture
async def embedded_broker(topic_prefix: str) -> AsyncIterator[BrokerUnderTest]:
    """An embedded broker of the test's own."""
    async with EmbeddedBroker() as broker:
        settings = KafkaSettings(topic_prefix=topic_prefix, partitions=2)
        yield BrokerUnderTest(settings.on_embedded(broker.bootstrap_servers), broker)


@pytest.fixture
def real_broker(kafka_servers: str, topic_prefix: str) -> BrokerUnderTest:
    """The real Apache Kafka, with topics of the test's own."""
    settings = KafkaSettings(
        bootstrap_servers=kafka_servers, topic_prefix=topic_prefix, partitions=2
    )
    return BrokerUnderTest(settings, None)


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> BrokerUnderTest:
    """The same test on the embedded broker and on a real Apache Kafka."""
    found: BrokerUnderTest = request.getfixturevalue(f"{request.param}_broker")
    return found
