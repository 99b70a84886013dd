"""Pipelines for the integration tests: one for each broker, shared by a module's tests."""

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from broker_under_test import BrokerUnderTest
from pipeline_under_test import Pipeline, whole_pipeline

from millrace.streams.embedded.broker import EmbeddedBroker
from millrace.streams.kafka_settings import KafkaSettings


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["embedded", pytest.param("real", marks=pytest.mark.kafka)],
)
async def shared_broker(request: pytest.FixtureRequest) -> AsyncIterator[BrokerUnderTest]:
    """A broker that outlives a test; topics have a prefix of their own."""
    settings = KafkaSettings(topic_prefix=f"i{uuid.uuid4().hex[:8]}.", partitions=2)
    if request.param == "real":
        servers = request.getfixturevalue("kafka_servers")
        yield BrokerUnderTest(settings.model_copy(update={"bootstrap_servers": (servers,)}), None)
        return
    async with EmbeddedBroker() as broker:
        yield BrokerUnderTest(settings.on_embedded(broker.bootstrap_servers), broker)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pipeline(
    shared_broker: BrokerUnderTest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pipeline]:
    """A pipeline without a store, on either broker; requests of one test do not touch another's."""
    folder = tmp_path_factory.mktemp("pipeline")
    async with whole_pipeline(shared_broker, folder) as running:
        yield running
