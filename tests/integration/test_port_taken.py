"""A process whose port another one has."""

import asyncio
import socket
from pathlib import Path

import pytest
from broker_under_test import BrokerUnderTest
from pipeline_under_test import pipeline_settings

from millrace.schemas.errors import ConfigurationError
from millrace.streams.pipeline import run_pipeline
from millrace.streams.roles import Role
from millrace.streams.settings import Settings


async def test_a_port_that_is_taken_is_told_before_anything_begins(
    broker: BrokerUnderTest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With what to set; no part has to be broken off, and none complains."""
    tree = pipeline_settings(broker, "http://127.0.0.1:9", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = Settings.model_validate({**tree, "web": {"port": port}})
        with pytest.raises(ConfigurationError, match=rf"web\.port: cannot listen on .*{port}"):
            await run_pipeline(
                settings,
                roles=frozenset(Role),
                environ={},
                stop=asyncio.Event(),
                embedded=broker.embedded,
            )

    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
