"""The books: what ClickHouse holds against what the simulator says that it sold."""

from pathlib import Path

from broker_under_test import BrokerUnderTest
from pipeline_books import open_books, the_books_are_right
from pipeline_under_test import (
    PROVIDERS,
    Pipeline,
    fresh_id,
    read_topic,
    request_body,
    running_pipeline,
    whole_pipeline,
)

from millrace.schemas.cancellation import Cancellation
from millrace.streams.roles import ALL_ROLES, Role
from millrace.streams.topics import TopicNames


async def make_trouble(pipeline: Pipeline) -> list[str]:
    """Requests of every kind of end; returns the ids of all of them."""
    asked = []
    for name in PROVIDERS:
        first = {"prefer_providers": [name]}
        for stream in (True, False):
            asked += [
                await pipeline.ask("good", stream=stream, route=first),
                await pipeline.ask(
                    "down", simulate=f"http=500 only={name}", stream=stream, route=first
                ),
                await pipeline.ask(
                    "silent", simulate="no_usage", stream=stream, route={"providers": [name]}
                ),
            ]
        for fault in ("cut after=4", "cut_cleanly after=4", "malformed after=4", "empty"):
            asked.append(
                await pipeline.ask(
                    "broken", simulate=f"{fault} only={name}", stream=True, route=first
                )
            )
    everybody = {"strategy": "ensemble", "members": 3}
    asked.append(await pipeline.ask("vote", simulate='answer="yes"', route=everybody))
    cut = "cut after=2 only=gemini"
    asked.append(await pipeline.ask("vote-cut", simulate=cut, route=everybody))
    return asked


async def test_the_sums_are_right_after_every_kind_of_trouble(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Retries, fallbacks, cut streams, cancellation, ledger events and calls delivered again."""
    async with whole_pipeline(broker, tmp_path, roles=ALL_ROLES) as pipeline:
        topics = TopicNames(pipeline.settings.kafka.topic_prefix)
        asked = await make_trouble(pipeline)
        cancelled = await pipeline.ask("cancelled", simulate="hang_mid after=3", stream=True)
        await pipeline.topics.until(lambda: pipeline.topics.chunks[cancelled], "a first token")
        record = Cancellation(request_id=cancelled)
        await pipeline.producer.send_and_wait(topics.cancellations, record.encode())
        for request_id in (*asked, cancelled):
            await pipeline.topics.response(request_id)
        await pipeline.simulator.ledger.until(lambda ledger: not ledger.totals().open)
        async with open_books(pipeline) as reader:
            await the_books_are_right(pipeline, reader)

        for record in await read_topic(broker, topics.usage):
            for _ in range(3):
                await pipeline.producer.send(topics.usage, record.value, key=record.key)
        last = await pipeline.ask("last")
        await pipeline.topics.response(last)
        async with open_books(pipeline) as reader:
            await the_books_are_right(pipeline, reader)


async def test_a_call_made_again_is_booked_again_and_ends_nothing(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """As after a crash between the call's end and the commit of its offset."""
    async with whole_pipeline(broker, tmp_path, roles=frozenset(Role) - {Role.CALLER}) as pipeline:
        topics = TopicNames(pipeline.settings.kafka.topic_prefix)
        request_id = fresh_id("again")
        calling = frozenset({Role.CALLER})
        async with running_pipeline(pipeline.settings, broker, roles=calling):
            body = request_body(request_id, route={"providers": ["openai"]}, stream=True)
            await pipeline.send(body)
            await pipeline.topics.response(request_id)
        (call,) = await read_topic(broker, topics.calls("openai"))
        await pipeline.producer.send_and_wait(call.topic, call.value, key=call.key)
        async with running_pipeline(pipeline.settings, broker, roles=calling):
            await pipeline.simulator.ledger.until(lambda _: len(pipeline.paid(request_id)) == 2)
            after = await pipeline.ask("after-again", route={"providers": ["openai"]})
            await pipeline.topics.response(after)

        async with open_books(pipeline) as reader:
            await the_books_are_right(pipeline, reader)
        assert len(pipeline.topics.responses[request_id]) == 1
        rows = {each.row_id for each in pipeline.topics.ledger[request_id]}
        assert len(rows) == 2
        chunks = pipeline.topics.chunks[request_id]
        for invocation in {each.invocation for each in chunks}:
            own = [each.sequence for each in chunks if each.invocation == invocation]
            assert own == list(range(len(own)))
