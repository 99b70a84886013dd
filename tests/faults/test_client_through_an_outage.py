"""The Python client while Kafka dies, comes back, or answers nothing for a while."""

import asyncio
from pathlib import Path

import pytest
from broker_under_test import BrokerUnderTest
from kafka_process import KafkaProcess
from pipeline_under_test import Pipeline, fresh_id, whole_pipeline

from millrace.client import Answer, Millrace, Piece
from millrace.schemas.response import Response
from millrace.streams.roles import Role

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

STREAMS = 12
ROLES = frozenset({Role.ROUTER, Role.CALLER, Role.VALIDATOR})


async def begin(client: Millrace, kind: str) -> list[tuple[Answer, list[Piece]]]:
    """Streams of which some pieces were taken, and that go on for seconds."""
    answers = [
        await client.stream(
            f'Tell me about mills. [[sim:label="{fresh_id(kind)}" tokens=120 pace=20]]',
            provider="openai",
        )
        for _ in range(STREAMS)
    ]
    return [(answer, [await anext(answer), await anext(answer)]) for answer in answers]


async def finish(answer: Answer, pieces: list[Piece]) -> tuple[list[Piece], Response]:
    """The rest of a stream, and how it ended."""
    pieces += [piece async for piece in answer]
    return pieces, await answer.completed()


async def all_are_whole(begun: list[tuple[Answer, list[Piece]]]) -> None:
    """No gap, nothing twice: the pieces are the answer."""
    async with asyncio.timeout(90):
        ended = await asyncio.gather(*(finish(*each) for each in begun))
    for pieces, response in ended:
        assert "".join(piece.delta for piece in pieces) == response.text
        assert [piece.mark.sequence for piece in pieces] == list(range(len(pieces)))


@pytest.mark.timeout(240)
async def test_streams_go_on_without_gap_or_repetition_when_the_broker_comes_back(
    own_broker: BrokerUnderTest, kafka_process: KafkaProcess, tmp_path: Path
) -> None:
    """Killed, then frozen: each time in the middle of the streams."""

    async def kill() -> None:
        kafka_process.kill()
        await asyncio.to_thread(kafka_process.start)

    async def freeze_until_the_models_are_done() -> None:
        kafka_process.freeze()
        await pipeline.simulator.ledger.until(lambda ledger: not ledger.totals().open)
        kafka_process.thaw()

    pipeline: Pipeline
    async with (
        whole_pipeline(own_broker, tmp_path, roles=ROLES) as pipeline,
        Millrace(pipeline.settings.kafka) as client,
    ):
        for outage in (kill, freeze_until_the_models_are_done):
            begun = await begin(client, outage.__name__)
            await outage()
            await all_are_whole(begun)
            after = await client.complete("And now?", provider="openai")
            assert after.status == "completed"
