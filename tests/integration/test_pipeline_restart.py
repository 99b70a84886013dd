"""Processes that come and go while work is under way."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from broker_under_test import BrokerUnderTest
from pipeline_under_test import (
    WITHOUT_STORE,
    Pipeline,
    provider_entries,
    read_topic,
    running_pipeline,
    whole_pipeline,
)

from millrace.streams.roles import Role
from millrace.streams.settings import Settings

ROUTING = frozenset({Role.ROUTER, Role.VALIDATOR})


def narrow(pipeline: Pipeline, **caller: Any) -> Settings:
    """The pipeline's settings with few places at each provider."""
    tree = pipeline.settings.model_dump(mode="python")
    tree["providers"] = provider_entries(pipeline.simulator.url, limits={"in_flight": 3})
    tree["caller"].update(caller)
    return Settings.model_validate(tree)


async def test_a_restart_with_calls_in_flight_pays_none_of_them_twice(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Those under way end before the process does; those that wait go to the next one."""
    async with whole_pipeline(broker, tmp_path, roles=ROUTING) as pipeline:
        settings = narrow(pipeline)
        route = {"providers": ["openai"]}
        async with running_pipeline(settings, broker, roles=frozenset({Role.CALLER})):
            asking = [
                pipeline.ask("restart", simulate="latency=1500", stream=True, route=route)
                for _ in range(8)
            ]
            asked = await asyncio.gather(*asking)
            await pipeline.simulator.ledger.until(lambda ledger: ledger.totals().open == 3)
        async with running_pipeline(settings, broker, roles=frozenset({Role.CALLER})):
            for request_id in asked:
                assert (await pipeline.topics.response(request_id)).status == "completed"

        assert [len(pipeline.paid(request_id)) for request_id in asked] == [1] * 8
        assert all(len(pipeline.topics.responses[each]) == 1 for each in asked)


async def test_a_restart_of_everything_loses_nothing(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Requests, joins and the ids that were used, all from what the topics hold."""
    async with whole_pipeline(broker, tmp_path, roles=frozenset()) as pipeline:
        settings = narrow(pipeline)
        async with running_pipeline(settings, broker, roles=WITHOUT_STORE):
            done = await pipeline.ask("done")
            await pipeline.topics.response(done)
            vote = await pipeline.ask(
                "vote",
                simulate='answer="yes" latency=1500 only=gemini',
                route={"strategy": "ensemble", "providers": ["openai", "anthropic", "gemini"]},
            )
            await pipeline.simulator.ledger.until(lambda ledger: ledger.totals().calls == 4)
            asked = [await pipeline.ask("all", simulate="latency=200") for _ in range(20)]
        async with running_pipeline(settings, broker, roles=WITHOUT_STORE):
            for request_id in (vote, *asked):
                assert (await pipeline.topics.response(request_id)).status == "completed"
            again = await pipeline.topics.response(done)
            (source,) = [
                record for record in await _requests(pipeline) if record.key == done.encode()
            ]
            await pipeline.send(source.value, key=source.key)
            last = await pipeline.ask("last")
            await pipeline.topics.response(last)

        assert pipeline.topics.responses[done] == [again]
        for request_id in (done, *asked):
            assert len(pipeline.paid(request_id)) == 1
            assert len(pipeline.topics.responses[request_id]) == 1
        assert len(pipeline.topics.responses[vote]) == 1
        assert pipeline.simulator.ledger.totals().calls == 1 + 3 + 20 + 1


async def _requests(pipeline: Pipeline) -> list[Any]:
    return await read_topic(pipeline.broker, pipeline.requests)


async def test_calls_broken_off_at_the_end_are_booked_and_made_again(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """When they take longer than a process may take to end."""
    async with whole_pipeline(broker, tmp_path, roles=ROUTING) as pipeline:
        settings = narrow(pipeline, drain_seconds=0.0)
        calling = frozenset({Role.CALLER})
        async with running_pipeline(settings, broker, roles=calling):
            request_id = await pipeline.ask(
                "broken-off",
                simulate="hang_mid after=3 times=1",
                stream=True,
                route={"providers": ["anthropic"]},
            )
            await pipeline.topics.until(lambda: pipeline.topics.chunks[request_id], "a token")
        async with running_pipeline(settings, broker, roles=calling):
            response = await pipeline.topics.response(request_id)
            chunks = await pipeline.topics.stream(request_id)

        assert (response.status, len(pipeline.paid(request_id))) == ("completed", 2)
        spent = [each for each in pipeline.topics.ledger[request_id] if each.event == "spent"]
        assert [each.error_code for each in spent] == ["interrupted", None]
        assert [each.attempt for each in spent] == [1, 1]
        assert len({each.row_id for each in spent}) == 2
        last = [each for each in chunks if each.invocation == chunks[-1].invocation]
        assert "".join(each.delta for each in last) == response.text


@pytest.mark.parametrize("second", [frozenset({Role.CALLER}), WITHOUT_STORE], ids=["caller", "all"])
async def test_a_second_process_shares_the_work(
    broker: BrokerUnderTest, tmp_path: Path, second: frozenset[Role]
) -> None:
    """It joins and leaves while calls are under way: one end each, and one paid call."""
    async with whole_pipeline(broker, tmp_path, roles=frozenset()) as pipeline:
        settings = narrow(pipeline)
        asked: list[str] = []

        async def ask(number: int) -> None:
            asked.extend(
                [await pipeline.ask("shared", simulate="latency=100") for _ in range(number)]
            )

        async with running_pipeline(settings, broker, roles=WITHOUT_STORE) as first:
            await ask(20)
            async with running_pipeline(settings, broker, roles=second) as other:
                await ask(40)
                for request_id in asked:
                    await pipeline.topics.response(request_id)
                held = [caller.in_flight for caller in (*first.callers, *other.callers)]
                assert held == [0] * len(held)
                await ask(20)
            for request_id in asked:
                assert (await pipeline.topics.response(request_id)).status == "completed"

        assert {len(pipeline.topics.responses[each]) for each in asked} == {1}
        paid = [len(pipeline.paid(each)) for each in asked]
        if broker.is_real:
            assert paid == [1] * 80
        else:
            # The embedded broker takes no commit while a group shares its partitions anew, so
            # the new owner makes calls again that had just ended.
            assert set(paid) <= {1, 2}


async def test_restarts_under_load_lose_nothing(broker: BrokerUnderTest, tmp_path: Path) -> None:
    """Four in a row, each with outcomes coming in while tables are recovered."""
    async with whole_pipeline(broker, tmp_path, roles=frozenset({Role.CALLER})) as pipeline:
        asked: list[str] = []
        for _ in range(4):
            async with running_pipeline(pipeline.settings, broker, roles=ROUTING):
                asked += [await pipeline.ask("rolling", simulate="latency=900") for _ in range(25)]
                first = asked[-25]
                await pipeline.simulator.ledger.until(lambda _, each=first: pipeline.paid(each))
        async with running_pipeline(pipeline.settings, broker, roles=ROUTING):
            for request_id in asked:
                assert (await pipeline.topics.response(request_id)).status == "completed"

        assert {len(pipeline.paid(each)) for each in asked} == {1}
        for request_id in asked:
            assert len({each.encode() for each in pipeline.topics.responses[request_id]}) == 1
