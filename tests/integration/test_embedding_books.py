"""What the store says of requests for vectors."""

from pathlib import Path

from broker_under_test import BrokerUnderTest
from pipeline_books import open_books, the_books_are_right
from pipeline_under_test import eventually, whole_pipeline
from pipeline_vectors import EMBEDDERS, ask_vectors

from millrace.streams.roles import ALL_ROLES

STORED = """
SELECT status, text, text_bytes, model, embedding_count, embedding_dimensions, output_tokens
FROM responses FINAL WHERE request_id = '{request_id}'
"""
ASKED = """
SELECT message_count, input_count, dimensions FROM requests FINAL
WHERE request_id = '{request_id}'
"""
COUNTED = "SELECT provider, model, dimensions, requests, vectors FROM embeddings ORDER BY provider"


async def test_the_store_counts_vectors_and_keeps_none(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """The books agree with the simulator's ledger after retries and usage that was left out."""
    async with whole_pipeline(broker, tmp_path, roles=ALL_ROLES) as pipeline:
        asked = []
        for provider in EMBEDDERS:
            route = {"providers": [provider]}
            asked.append(await ask_vectors(pipeline, "kept", dimensions=32, route=route))
            for order in ("no_usage", "http=500 times=1", "cut=1 times=1", "http=429 times=1"):
                trouble = await ask_vectors(pipeline, "trouble", simulate=order, route=route)
                await pipeline.topics.response(trouble)
        for request_id in asked:
            await pipeline.topics.response(request_id)
        async with open_books(pipeline) as reader:
            await the_books_are_right(pipeline, reader)

            async def counted() -> bool:
                return sum(int(row[4]) for row in (await reader.query(COUNTED)).rows) == 45

            await eventually(counted, "45 vectors in the view")
            (stored,) = (await reader.query(STORED.format(request_id=asked[0]))).rows
            (request,) = (await reader.query(ASKED.format(request_id=asked[0]))).rows
            rows = (await reader.query(COUNTED)).rows
        model = EMBEDDERS["openai"]
        assert [str(value) for value in stored] == ["completed", "", "0", model, "3", "32", "0"]
        assert [int(value) for value in request] == [0, 3, 32]
        assert {(row[0], row[1]) for row in rows} == set(EMBEDDERS.items())
