"""Calls wait for a provider's rate limits instead of failing, and in a fair order."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from broker_under_test import BrokerUnderTest
from pipeline_under_test import (
    Pipeline,
    eventually,
    provider_entries,
    running_pipeline,
    whole_pipeline,
)

from millrace.providers.simulator.ledger import LedgerLine
from millrace.providers.simulator.quota import QuotaSettings
from millrace.providers.simulator.settings import InstanceSettings, SimulatorSettings
from millrace.streams.pipeline import RunningPipeline
from millrace.streams.roles import Role
from millrace.streams.settings import Settings

ROUTING = frozenset({Role.ROUTER, Role.VALIDATOR})
CALLING = frozenset({Role.CALLER})
SHORT = {"max_output_tokens": 12}


@asynccontextmanager
async def routing(
    broker: BrokerUnderTest,
    folder: Path,
    *,
    quota: QuotaSettings | None = None,
    roles: frozenset[Role] = ROUTING,
) -> AsyncIterator[Pipeline]:
    """A pipeline without a caller, whose provider keeps to a quota."""
    simulator = SimulatorSettings(
        answer_tokens=(12, 12), instances={"openai": InstanceSettings(quota=quota)}
    )
    async with whole_pipeline(broker, folder, roles=roles, simulator=simulator) as pipeline:
        yield pipeline


def calling(pipeline: Pipeline, **limits: Any) -> Settings:
    """Settings of a caller of that provider, with two models."""
    tree = pipeline.settings.model_dump(mode="python")
    entry = provider_entries(pipeline.simulator.url, limits=limits)["openai"]
    entry["models"] = {"gpt-4.1-mini": {}, "gpt-4.1": {}}
    tree["providers"] = {"openai": entry}
    tree["caller"].update(drain_seconds=20.0)
    return Settings.model_validate(tree)


async def burst(pipeline: Pipeline, count: int, **fields: Any) -> list[str]:
    """Many requests for that provider at once."""
    route = {"providers": ["openai"]}
    asked = [pipeline.ask("burst", route=route, **fields) for _ in range(count)]
    return list(await asyncio.gather(*asked))


async def all_completed(pipeline: Pipeline, request_ids: list[str]) -> None:
    """Each has one end, a good one at its first attempt, and was paid for once."""
    for request_id in request_ids:
        response = await pipeline.topics.response(request_id, seconds=60)
        assert (response.status, len(response.attempts)) == ("completed", 1)
        assert len(pipeline.paid(request_id)) == 1


def lines(pipeline: Pipeline) -> list[LedgerLine]:
    """The simulator's own account of all calls."""
    return list(pipeline.simulator.ledger.lines())


async def owns_a_part(*running: RunningPipeline) -> None:
    """Wait until each of these callers has its partitions."""

    async def shared() -> bool:
        shares = [each.callers[0].share for each in running]
        return all(shares) and abs(sum(shares) - 1) < 1e-9

    await eventually(shared, "the limit to be shared out")


async def test_two_callers_keep_a_burst_to_the_limit_that_they_share(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """The provider never has to refuse, and each call is made once; a caller's end moves its part.

    1,200 requests a minute are 20 a second. Both callers together may begin a second's worth at
    once; the provider takes two.
    """
    quota = QuotaSettings(requests_per_minute=1200, burst_seconds=2)
    async with routing(broker, tmp_path, quota=quota) as pipeline:
        settings = calling(pipeline, requests_per_minute=1200)
        async with running_pipeline(settings, broker, roles=CALLING) as first:
            async with running_pipeline(settings, broker, roles=CALLING) as second:
                await owns_a_part(first, second)
                assert (first.callers[0].share, second.callers[0].share) == (0.5, 0.5)
                await all_completed(pipeline, await burst(pipeline, 80))
                assert second.tally.attempts
                assert first.tally.attempts
            await owns_a_part(first)
            await all_completed(pipeline, await burst(pipeline, 40))

        made = lines(pipeline)
        assert [line.status for line in made] == [200] * 120
        starts = sorted(line.started_at for line in made)
        assert starts[79] - starts[0] >= 2.5


async def test_tokens_a_minute_are_kept(broker: BrokerUnderTest, tmp_path: Path) -> None:
    """They are reserved by estimate and settled by what was counted."""
    quota = QuotaSettings(tokens_per_minute=60_000, burst_seconds=3)
    async with routing(broker, tmp_path, quota=quota) as pipeline:
        settings = calling(pipeline, tokens_per_minute=60_000)
        async with running_pipeline(settings, broker, roles=CALLING):
            prompt = "Tell me about mills and the people who run them. " * 10
            asked = await burst(pipeline, 40, prompt=prompt, parameters=SHORT)
            await all_completed(pipeline, asked)

    made = lines(pipeline)
    assert {line.status for line in made} == {200}
    tokens = sum(line.input_tokens + line.generated_tokens for line in made)
    span = max(line.started_at for line in made) - min(line.started_at for line in made)
    assert tokens <= 1000 * (span + 1.5)


async def test_what_the_provider_s_headers_say_is_enough(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """With no limit of our own: nothing begins of which the headers say that it is too much."""
    quota = QuotaSettings(requests_per_minute=600, burst_seconds=1)
    async with routing(broker, tmp_path, quota=quota) as pipeline:
        settings = calling(pipeline, in_flight=4)
        async with running_pipeline(settings, broker, roles=CALLING):
            await all_completed(pipeline, await burst(pipeline, 40))

    assert {line.status for line in lines(pipeline)} == {200}


async def test_a_refusal_rests_its_model_and_no_other(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Until the time that it names; whoever looks sees who waits."""
    async with (
        routing(broker, tmp_path, roles=frozenset({Role.VALIDATOR})) as pipeline,
        running_pipeline(
            calling(pipeline), broker, roles=frozenset({Role.ROUTER, Role.CALLER})
        ) as running,
    ):
        # Both models belong to the entry of these two roles.
        large = {"models": ["gpt-4.1"]}
        refused = await pipeline.ask(
            "refused", simulate="http=429 retry_after=3 times=1", route=large
        )

        async def seen() -> bool:
            return running.status().rate_limited == ("openai/gpt-4.1",)

        await pipeline.topics.until(lambda: pipeline.topics.ledger.get(refused), "its call")
        waits = [await pipeline.ask("waits", route=large) for _ in range(3)]
        await eventually(seen, "the status to say who waits")
        other = await pipeline.ask("other", route={"models": ["gpt-4.1-mini"]})
        await pipeline.topics.response(other)
        assert not any(pipeline.topics.responses.get(each) for each in waits)
        await all_completed(pipeline, [other, *waits])
        response = await pipeline.topics.response(refused)

    assert [each.status for each in response.attempts] == ["failed", "completed"]
    first = pipeline.paid(refused)[0]
    assert first.ended_at is not None
    for each in waits:
        assert pipeline.paid(each)[0].started_at >= first.ended_at + 2.9


async def test_what_waits_for_a_limit_expires_and_is_cancelled_in_time(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Wherever it stands in line, and it costs nothing of the limit."""
    async with routing(broker, tmp_path) as pipeline:
        settings = calling(pipeline, requests_per_minute=1)
        async with running_pipeline(settings, broker, roles=CALLING):
            front = await burst(pipeline, 3)
            deadline = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
            (late,) = await burst(pipeline, 1, deadline=deadline)
            response = await pipeline.topics.response(late)
            assert response.status == "expired"
            for request_id in front:
                await pipeline.cancel(request_id)
            for request_id in front:
                response = await pipeline.topics.response(request_id)
                assert response.status == "cancelled"

    assert lines(pipeline) == []


async def test_neither_a_team_s_flood_nor_its_lane_shuts_others_out(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """What waits together is begun in the order of lanes and teams, not in that of its coming.

    One call is made at a time, so that the provider's ledger has the order itself.
    """
    async with routing(broker, tmp_path) as pipeline:
        tree = calling(pipeline, in_flight=1).model_dump(mode="python")
        tree["caller"]["lanes"] = {"interactive_weight": 3}
        settings = Settings.model_validate(tree)
        async with running_pipeline(settings, broker, roles=CALLING) as running:
            (front,) = await burst(pipeline, 1, simulate="hang", lane="batch", team="flood")
            await pipeline.simulator.ledger.until(lambda ledger: any(ledger.lines()))
            flood = await burst(pipeline, 6, lane="batch", team="flood")
            other = await burst(pipeline, 2, lane="batch", team="other")
            live = await burst(pipeline, 8, team="live")

            async def in_line() -> bool:
                return running.callers[0].waiting == 16

            await eventually(in_line, "all of them to stand in line")
            await pipeline.cancel(front)
            await all_completed(pipeline, [*flood, *live, *other])

    order = [line.label for line in sorted(lines(pipeline), key=lambda line: line.started_at)]
    assert order[0] == front
    turns = "".join("L" if each in live else "o" if each in other else "f" for each in order[1:])
    batch_between = len(turns[: turns.rindex("L")].replace("L", ""))
    assert 1 <= batch_between <= 3, turns
    assert turns[-2:] == "ff", turns


async def _overtaken(pipeline: Pipeline) -> tuple[list[str], list[str]]:
    """Calls that wait, and later ones of which half have ended."""
    slow = await burst(pipeline, 10, simulate="latency=5000", lane="batch", team="slow")
    await pipeline.simulator.ledger.until(lambda ledger: any(ledger.lines()))
    quick = await burst(pipeline, 12, simulate="latency=50")
    for request_id in quick[:6]:
        await pipeline.topics.response(request_id)
    return slow, quick


async def _each_was_made_once(
    pipeline: Pipeline, request_ids: list[str], *running: RunningPipeline
) -> None:
    """Once these callers have nothing left to do."""

    async def done() -> bool:
        callers = [each.callers[0] for each in running]
        return not sum([each.in_flight + await each.lag() for each in callers])

    for request_id in request_ids:
        await pipeline.topics.response(request_id)
    await eventually(done, "the callers to have nothing left")
    made = Counter(line.label for line in lines(pipeline))
    assert made == dict.fromkeys(request_ids, 1)


@pytest.mark.kafka
async def test_what_ended_behind_waiting_calls_is_not_made_again_when_partitions_move(
    real_broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """A commit cannot pass the calls that wait, but says what is done behind them.

    The embedded broker takes no commits while a group is changing.
    """
    async with routing(real_broker, tmp_path) as pipeline:
        settings = calling(pipeline, in_flight=2)
        async with running_pipeline(settings, real_broker, roles=CALLING) as first:
            slow, quick = await _overtaken(pipeline)
            async with running_pipeline(settings, real_broker, roles=CALLING) as second:
                await owns_a_part(first, second)
                await _each_was_made_once(pipeline, [*slow, *quick], first, second)


async def test_what_ended_behind_waiting_calls_is_not_made_again_after_a_shutdown(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Whoever takes the topic up next makes what waited, and nothing else."""
    async with routing(broker, tmp_path) as pipeline:
        settings = calling(pipeline, in_flight=2)
        async with running_pipeline(settings, broker, roles=CALLING):
            slow, quick = await _overtaken(pipeline)
        made = {line.label for line in lines(pipeline)}
        assert set(slow) - made
        async with running_pipeline(settings, broker, roles=CALLING) as second:
            await _each_was_made_once(pipeline, [*slow, *quick], second)


@pytest.mark.parametrize("lane", ["interactive", "batch"])
async def test_a_flapping_provider_ends_every_request_once(
    embedded_broker: BrokerUnderTest, tmp_path: Path, lane: str
) -> None:
    """The circuit opens and closes many times; nothing is lost, doubled or left reserved."""
    async with routing(embedded_broker, tmp_path) as pipeline:
        settings = calling(pipeline, in_flight=8, requests_per_minute=30_000)
        tree = settings.model_dump(mode="python")
        tree["caller"]["circuit"] = {
            "consecutive_failures": 2,
            "open_seconds": 0.1,
            "max_open_seconds": 0.2,
            "probes": 1,
        }
        tree["caller"]["backoff"] = {"base_seconds": 0.01, "max_seconds": 0.05, "max_tries": 2}
        settings = Settings.model_validate(tree)
        async with running_pipeline(settings, embedded_broker, roles=CALLING) as running:
            asked = []
            for number in range(45):
                fault = "http=500" if number % 3 else ""
                asked += await burst(pipeline, 1, simulate=fault, lane=lane)
            for request_id in asked:
                response = await pipeline.topics.response(request_id, seconds=60)
                assert response.status in ("completed", "failed")
                made = [each for each in response.attempts if each.usage is not None]
                assert len(pipeline.paid(request_id)) == len(made)
            assert running.callers[0].in_flight == 0
            assert {len(pipeline.topics.responses[each]) for each in asked} == {1}
