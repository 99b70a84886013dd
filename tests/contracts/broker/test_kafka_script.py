"""`scripts/kafka.py` starts a Kafka that keeps its data, and says what it lacks."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from kafka_process import KAFKA_SCRIPT, free_port

from millrace.streams.kafka_settings import KafkaSettings
from millrace.streams.kafka_topic_admin import KafkaTopicAdmin
from millrace.streams.topic_admin import create_missing
from millrace.streams.topics import topic_specs


def script(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the script and return what it said."""
    return subprocess.run(
        [sys.executable, str(KAFKA_SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environ,
    )


def test_without_maven_it_says_how_to_get_it(tmp_path: Path) -> None:
    """Exit code 2 and a sentence."""
    done = script("fetch", PATH=str(tmp_path), MILLRACE_KAFKA_HOME=str(tmp_path / "none"))

    assert done.returncode == 2
    assert "Maven (mvn) is not on PATH" in done.stderr
    assert "apt install maven" in done.stderr


def test_it_says_that_nothing_runs(tmp_path: Path) -> None:
    """`status` fails so that scripts can ask; `stop` has nothing to do."""
    data = str(tmp_path / "data")

    assert script("status", "--data", data).returncode == 1
    assert script("stop", "--data", data).returncode == 0


def test_a_pid_file_that_names_another_program_is_stale(tmp_path: Path) -> None:
    """Process ids are used again: nothing of somebody else's is stopped."""
    (tmp_path / "kafka.pid").write_text(str(os.getpid()))

    stopped = script("stop", "--data", str(tmp_path))

    assert "No Kafka runs" in stopped.stdout


@pytest.mark.kafka
async def test_data_stays_when_it_stops(kafka_script: Path, tmp_path: Path) -> None:
    """Started again on the same folder it has what was written; a second start changes nothing."""
    data, port = str(tmp_path / "data"), str(free_port())
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}", partitions=1)
    started = await asyncio.to_thread(script, "start", "--data", data, "--port", port)
    try:
        assert started.returncode == 0, started.stderr
        async with KafkaTopicAdmin(client_kwargs=settings.client_kwargs()) as admin:
            await create_missing(admin, topic_specs(settings, providers=[])[:1])
        async with AIOKafkaProducer(**settings.producer_kwargs()) as producer:
            await producer.send_and_wait("llm.requests", b"kept")

        stopped = await asyncio.to_thread(script, "stop", "--data", data)
        again = await asyncio.to_thread(script, "start", "--data", data, "--port", port)
        twice = await asyncio.to_thread(script, "start", "--data", data, "--port", port)
        kwargs = settings.consumer_kwargs() | {"auto_offset_reset": "earliest"}
        async with AIOKafkaConsumer("llm.requests", **kwargs) as consumer, asyncio.timeout(30):
            record = await consumer.getone()

        assert (stopped.returncode, again.returncode, twice.returncode) == (0, 0, 0)
        assert "runs already" in twice.stderr
        assert record.value == b"kept"
    finally:
        await asyncio.to_thread(script, "stop", "--data", data)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """With what to do about it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = script("start", "--data", str(tmp_path), "--port", str(port))

    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr
