"""What the short way into a producer's batches takes, and what it leaves to `send`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, RequestTimedOutError

from millrace.streams.batches import Batches
from millrace.streams.deliveries import BatchDelivery

RECORD_BYTES = 2_000
BATCH_BYTES = 5_000


class Bench:
    """A producer that knows a topic and was never connected, and what was told of failures."""

    def __init__(self) -> None:
        self.producer = AIOKafkaProducer(max_batch_size=BATCH_BYTES)
        self.producer.client.cluster._partitions = {"t": {0: object(), 1: object()}}
        self.failures: list[BaseException] = []
        self.batches = Batches(
            self.producer, max_record_bytes=RECORD_BYTES, on_failed=self.failures.append
        )

    def append(
        self,
        topic: str = "t",
        *,
        value: bytes = b"v",
        key: bytes | None = b"k",
        partition: int | None = None,
        essential: bool = True,
    ) -> BatchDelivery | None:
        return self.batches.append(
            topic, value, key=key, headers=[], partition=partition, essential=essential
        )

    def fail(self) -> None:
        """Fail every batch, as a producer that cannot go on does."""
        self.producer._message_accumulator.fail_all(RequestTimedOutError())


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Within the block, and without the warning about a producer that was not stopped."""
    made = Bench()
    yield made
    made.producer._closed = True


@pytest.mark.parametrize(
    "record",
    [
        {"topic": "unheard-of"},
        {"key": None},
        {"partition": 2},
        {"value": b"v" * RECORD_BYTES},
    ],
    ids=lambda record: next(iter(record)),
)
async def test_what_is_not_plain_is_left_to_send(record: dict[str, object]) -> None:
    """`send` asks the broker, chooses at random, or refuses."""
    async with bench() as at:
        assert at.append(**record) is None  # type: ignore[arg-type]


async def test_a_full_batch_is_left_to_send() -> None:
    """There the record waits until the batch is on its way."""
    async with bench() as at:
        taken = [at.append(value=b"v" * 1_500, partition=0) is not None for _ in range(5)]

        assert taken == [True, True, True, False, False]
        assert at.append(partition=1) is not None


@pytest.mark.parametrize("essential", [True, False])
async def test_of_a_failed_batch_we_hear_once_if_it_matters(essential: bool) -> None:
    """Whichever of its records is the essential one; then nothing more is taken."""
    async with bench() as at:
        optional = at.append(partition=0, essential=False)
        others = [at.append(partition=0, essential=essential) for _ in range(3)]
        at.fail()
        for each in (optional, *others):
            assert each is not None
            with pytest.raises(KafkaError):
                await each
        await asyncio.sleep(0)

        assert len(at.failures) == int(essential)
        assert at.append(partition=0) is None
