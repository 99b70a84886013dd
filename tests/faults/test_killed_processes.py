"""SIGKILL in the middle of work: nothing is lost, ended twice, or left out of the books."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from broker_under_test import BrokerUnderTest
from pipeline_books import open_books, the_books_are_right
from pipeline_process import RoleProcess
from pipeline_under_test import Pipeline, eventually, read_topic, whole_pipeline

from millrace.streams.finished_ahead import decode
from millrace.streams.roles import ALL_ROLES, Role

StartRole = Callable[[Pipeline, str], RoleProcess]

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def one_end_each(pipeline: Pipeline, asked: list[str]) -> None:
    """The same terminal record may lie there again, never another one."""
    for request_id in asked:
        ends = {each.encode() for each in pipeline.topics.responses[request_id]}
        assert len(ends) == 1, (request_id, ends)


async def committed_calls(pipeline: Pipeline, provider: str) -> int:
    """How many calls the commits of a provider's callers say are done."""
    admin = AIOKafkaAdminClient(**pipeline.settings.kafka.client_kwargs())
    await admin.start()
    try:
        group = f"{pipeline.settings.app_id}-caller-{provider}"
        commits = (await admin.list_consumer_group_offsets(group)).values()
    finally:
        await admin.close()
    beyond = [run for each in commits for run in decode(each.offset, each.metadata or "")]
    return sum(each.offset for each in commits) + sum(run.past - run.first for run in beyond)


async def test_a_killed_caller_loses_no_call_and_no_cost(
    real_broker: BrokerUnderTest, tmp_path: Path, role_process: StartRole
) -> None:
    """A slow first call, quick ones behind it, kill: the slow one alone is made again."""
    roles = ALL_ROLES - {Role.CALLER}
    async with whole_pipeline(real_broker, tmp_path, roles=roles) as pipeline:
        async with role_process(pipeline, "caller") as caller:
            route = {"providers": ["openai"]}
            slow = [
                await pipeline.ask(
                    "slow", simulate="hang_mid after=3 times=1", stream=True, route=route
                )
                for _ in range(4)
            ]
            for request_id in slow:
                await pipeline.topics.until(
                    lambda each=request_id: pipeline.topics.chunks[each], "the slow calls' tokens"
                )
            quick = [await pipeline.ask("quick", route=route) for _ in range(40)]
            for request_id in quick:
                await pipeline.topics.response(request_id)

            async def committed() -> bool:
                return await committed_calls(pipeline, "openai") == len(quick)

            await eventually(committed, "the quick calls to be committed")
            await caller.kill()
            assert not any(pipeline.topics.responses[each] for each in slow)

            await caller.start()
            for request_id in slow:
                assert (await pipeline.topics.response(request_id)).status == "completed"
            last = await pipeline.ask("last", route=route)
            await pipeline.topics.response(last)

        one_end_each(pipeline, [*slow, *quick, last])
        assert [len(pipeline.paid(request_id)) for request_id in slow] == [2] * 4
        assert [len(pipeline.paid(request_id)) for request_id in quick] == [1] * len(quick)
        async with open_books(pipeline) as reader:
            await the_books_are_right(pipeline, reader)


async def test_a_killed_validator_ends_each_ensemble_once(
    real_broker: BrokerUnderTest, tmp_path: Path, role_process: StartRole
) -> None:
    """Killed while some members have answered and others have not."""
    roles = frozenset({Role.ROUTER, Role.CALLER})
    async with whole_pipeline(real_broker, tmp_path, roles=roles) as pipeline:
        async with role_process(pipeline, "validator") as validator:
            ensemble = {
                "strategy": "ensemble",
                "providers": ["openai", "anthropic", "gemini"],
                "quorum": 2,
            }
            done = [
                await pipeline.ask("done", simulate='answer="yes"', route=ensemble)
                for _ in range(10)
            ]
            for request_id in done:
                await pipeline.topics.response(request_id)
            asked = [
                await pipeline.ask(
                    "vote", simulate='answer="yes" latency=5000 only=gemini', route=ensemble
                )
                for _ in range(15)
            ]
            ledger = pipeline.simulator.ledger
            await ledger.until(
                lambda ledger: ledger.totals().calls == 75 and ledger.totals().open <= 15
            )
            await validator.kill()
            assert not all(pipeline.topics.responses[each] for each in asked)
            await ledger.until(lambda ledger: not ledger.totals().open)

            await validator.start()
            for request_id in asked:
                assert (await pipeline.topics.response(request_id)).status == "completed"
            last = await pipeline.ask("last")
            await pipeline.topics.response(last)

        one_end_each(pipeline, [*done, *asked, last])
        assert ledger.totals().calls == 75 + 1
        for request_id in asked:
            verdict = pipeline.topics.responses[request_id][0].ensemble
            assert verdict is not None
            assert verdict.answered == 3


async def test_a_join_times_out_though_its_validator_was_killed(
    real_broker: BrokerUnderTest, tmp_path: Path, role_process: StartRole
) -> None:
    """The deadline is in the state, and the next process watches it."""
    roles = frozenset({Role.ROUTER})
    async with whole_pipeline(real_broker, tmp_path, roles=roles) as pipeline:
        async with role_process(pipeline, "validator") as validator:
            deadline = datetime.now(UTC) + timedelta(seconds=8)
            request_id = await pipeline.ask(
                "nobody-answers",
                deadline=deadline.isoformat(),
                route={"strategy": "ensemble", "members": 3},
            )
            state = f"{pipeline.settings.app_id}-validator-joins-changelog"

            async def opened() -> bool:
                return bool(await read_topic(real_broker, state))

            await eventually(opened, "the open join in the changelog")
            await validator.kill()
            await validator.start()
            response = await pipeline.topics.response(request_id)

        assert (response.status, response.completed_at) == ("expired", deadline)
        one_end_each(pipeline, [request_id])


async def test_a_router_killed_under_load_loses_and_repeats_nothing(
    real_broker: BrokerUnderTest, tmp_path: Path, role_process: StartRole
) -> None:
    """Twice; each request ends once and is paid once."""
    roles = frozenset({Role.VALIDATOR, Role.CALLER})
    async with whole_pipeline(real_broker, tmp_path, roles=roles) as pipeline:
        asked: list[str] = []
        async with role_process(pipeline, "router") as router:
            for _ in range(2):
                before = len(asked)
                asked += [await pipeline.ask("load") for _ in range(150)]
                await pipeline.topics.response(asked[before + 20])
                await router.kill()
                await router.start()
            for request_id in asked:
                assert (await pipeline.topics.response(request_id)).status == "completed"
            again = asked[0]
            await pipeline.send(pipeline.sent[again])
            last = await pipeline.ask("last")
            await pipeline.topics.response(last)

        one_end_each(pipeline, asked)
        assert [len(pipeline.paid(each)) for each in asked] == [1] * len(asked)
