"""`millrace up` that cannot go on says why, and ends with a code for supervisors."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from broker_under_test import BrokerUnderTest
from kafka_process import free_port
from kafka_security import SecureKafka
from pipeline_process import toml
from pipeline_under_test import pipeline_settings

from millrace.streams.cli import exits
from millrace.streams.kafka_settings import KafkaSettings

pytestmark = [pytest.mark.slow]


async def ended(tree: dict[str, Any], folder: Path, *arguments: str) -> tuple[int, str]:
    """Run it to its end; returns its exit code and what it said."""
    return await ended_with(toml(tree), folder, *arguments)


async def ended_with(text: str, folder: Path, *arguments: str) -> tuple[int, str]:
    """As `ended`, with a config file as it stands."""
    config = folder / "millrace.toml"
    config.write_text(text)
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("millrace")),
        "up",
        "--config",
        str(config),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name in ("PATH", "HOME")},
    )
    async with asyncio.timeout(100):
        _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def settings_tree(servers: str, folder: Path, **sections: Any) -> dict[str, Any]:
    """A pipeline's settings for a broker there; its models are never asked."""
    kafka = KafkaSettings(bootstrap_servers=(servers,), topic_prefix="t.", partitions=2)
    return pipeline_settings(BrokerUnderTest(kafka, None), "http://127.0.0.1:9", folder, **sections)


async def test_no_broker_at_the_start(tmp_path: Path) -> None:
    """Out of reach: the address is named."""
    port = free_port()
    code, said = await ended(settings_tree(f"127.0.0.1:{port}", tmp_path), tmp_path)

    assert code == exits.UNREACHABLE
    assert f"127.0.0.1:{port}" in said
    assert "Traceback" not in said


@pytest.mark.kafka
async def test_a_store_that_refuses_the_password(
    real_broker: BrokerUnderTest, tmp_path: Path, store: Any
) -> None:
    """Waiting would not help: somebody has to change the settings."""
    wrong = store.url.replace("secret", "wrong-password")
    tree = pipeline_settings(real_broker, "http://127.0.0.1:9", tmp_path, clickhouse={"url": wrong})
    code, said = await ended(tree, tmp_path, "--role", "sink")

    assert code == exits.USAGE
    assert "refuses the user" in said
    assert "wrong-password" not in said


@pytest.mark.kafka
async def test_a_port_that_is_taken(real_broker: BrokerUnderTest, tmp_path: Path) -> None:
    """Named, with what to do."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        tree = pipeline_settings(real_broker, "http://127.0.0.1:9", tmp_path, web={"port": port})
        code, said = await ended(tree, tmp_path, "--role", "validator")

    assert code not in (exits.FINE, None)
    assert str(port) in said
    assert "Traceback" not in said


async def test_a_config_that_is_broken(tmp_path: Path) -> None:
    """Where it cannot be read, and which settings there are not; all of them at once."""
    code, said = await ended_with("[kafka\n", tmp_path)
    assert code == exits.USAGE
    assert "millrace.toml" in said
    assert "line 1" in said

    wrong = {"kafka": {"colour": "blue"}, "caller": {"drain_seconds": -1}}
    code, said = await ended(wrong, tmp_path)
    assert code == exits.USAGE
    assert "colour" in said
    assert "drain_seconds" in said
    assert "Traceback" not in said


@pytest.mark.kafka
async def test_tables_with_other_partitions_than_their_topic(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Somebody gave the requests more: states would not be found where their keys are now."""
    tree = pipeline_settings(real_broker, "http://127.0.0.1:9", tmp_path)
    await real_broker.create_topic("requests", partitions=4)
    table = f"{tree['app_id']}-router-seen-changelog"
    alone = real_broker.settings.model_copy(update={"topic_prefix": ""})
    await BrokerUnderTest(alone, None).create_topic(table, partitions=2)
    code, said = await ended(tree, tmp_path, "--role", "router")

    assert code == exits.USAGE
    assert f"{table}: has 2 partitions, needs 4" in said
    assert "Traceback" not in said


@pytest.mark.kafka
async def test_an_embedded_engine_that_cannot_be_opened(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Its folder would lie inside a file."""
    (tmp_path / "file").touch()
    url = f"chdb://{tmp_path}/file/engine"
    tree = pipeline_settings(real_broker, "http://127.0.0.1:9", tmp_path, clickhouse={"url": url})
    code, said = await ended(tree, tmp_path, "--role", "sink")

    assert code == exits.UNREACHABLE
    assert url in said
    assert "Traceback" not in said


@pytest.mark.kafka
async def test_an_embedded_engine_on_a_full_disk(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """It says how much is free, and which setting asks for more."""
    clickhouse = {"engine_min_free_bytes": 1 << 60}
    tree = pipeline_settings(real_broker, "http://127.0.0.1:9", tmp_path, clickhouse=clickhouse)
    code, said = await ended(tree, tmp_path, "--role", "sink")

    assert code == exits.UNREACHABLE
    assert "clickhouse.engine_min_free_bytes" in said
    assert "Traceback" not in said


@pytest.mark.kafka
async def test_a_password_that_kafka_refuses(secure_kafka: SecureKafka, tmp_path: Path) -> None:
    """What to look at is named, the password is not."""
    tree = settings_tree(secure_kafka.sasl_plaintext, tmp_path)
    tree["kafka"] |= {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "username": secure_kafka.username,
        "password": "wrong-password",
    }
    code, said = await ended(tree, tmp_path, "--role", "validator")

    assert code == exits.UNREACHABLE
    assert "kafka.username" in said
    assert "wrong-password" not in said
    assert "Traceback" not in said
