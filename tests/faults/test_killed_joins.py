"""SIGKILL while joins are open: each request ends once, in time, whatever its members do."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, Literal

import pytest
from aiokafka import AIOKafkaConsumer
from broker_under_test import BrokerUnderTest
from machine_pauses import MachinePauses
from pipeline_process import RoleProcess
from pipeline_under_test import Pipeline, pipeline_settings, read_topic, whole_pipeline

from millrace.schemas.outcome import AttemptOutcome, decode_outcome
from millrace.schemas.response import Response
from millrace.streams.roles import Role
from millrace.streams.topics import TopicNames

Fate = Literal["answers", "late", "missing"]

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.alone]

MEMBERS = 5
LATE_MS = 6_000
"""A late member answers after the kills; made again after one, it is later still."""
DEADLINE_SECONDS = 28.0
"""Of the first request; those after it have theirs one by one."""
STEP_SECONDS = 0.06
PROVIDERS = tuple(f"model-{number}" for number in range(MEMBERS))


@dataclass(frozen=True)
class Case:
    """What the members of one request do, and how they are joined."""

    fates: tuple[Fate, ...]
    strategy: Literal["ensemble", "parallel"]
    duplicated: bool
    """Every outcome of its members is written twice."""

    @property
    def surely(self) -> int:
        """How many members answer before the deadline, however slow the machine is."""
        return self.fates.count("answers")

    @property
    def perhaps(self) -> int:
        """How many members can answer before the deadline."""
        return len(self.fates) - self.fates.count("missing")

    @property
    def needed(self) -> int:
        """How many answers make a result."""
        return 1 if self.strategy == "parallel" else len(self.fates) // 2 + 1

    def prompt(self) -> str:
        """Command each provider's fate."""
        commands = {"answers": "answer=yes", "late": f"answer=yes latency={LATE_MS}"}
        return "Which? " + " ".join(
            f'[[sim:where="Which" only={provider} {commands.get(fate, "hang")}]]'
            for provider, fate in zip(PROVIDERS, self.fates, strict=False)
        )


def cases() -> Iterator[Case]:
    """Every combination for two to five members, each with and without duplicates."""
    fates: tuple[Fate, ...] = ("answers", "late", "missing")
    for count in range(2, MEMBERS + 1):
        for number, combination in enumerate(combinations_with_replacement(fates, count)):
            for duplicated in (False, True):
                yield Case(combination, "ensemble", duplicated)
            yield Case(combination, "parallel", bool(number % 2))


def entries(simulator_url: str) -> dict[str, Any]:
    """A provider entry for each member."""
    return {
        name: {
            "wire": "openai",
            "base_url": f"{simulator_url}/{name}/openai/v1",
            "models": {f"{name}-large": {}},
            "simulated": True,
        }
        for name in PROVIDERS
    }


class Duplicates:
    """Writes outcomes of some requests once more, as a call that is made again would."""

    def __init__(self, pipeline: Pipeline, wanted: set[str]) -> None:
        self._pipeline = pipeline
        self._wanted = wanted
        self._names = TopicNames(pipeline.settings.kafka.topic_prefix)
        self.written = 0

    async def run(self) -> None:
        """Watch until cancelled."""
        consumer = AIOKafkaConsumer(
            self._names.outcomes,
            **self._pipeline.broker.settings.client_kwargs(),
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            async for record in consumer:
                outcome = decode_outcome(record.value)
                if isinstance(outcome, AttemptOutcome) and outcome.request_id in self._wanted:
                    await self._again(outcome, record.key)
        finally:
            await consumer.stop()

    async def _again(self, outcome: AttemptOutcome, key: bytes) -> None:
        if outcome.invocation.endswith("-again"):
            return
        again = outcome.model_copy(
            update={"invocation": f"{outcome.invocation}-again", "text": "something else"}
        )
        await self._pipeline.producer.send_and_wait(
            self._names.outcomes,
            again.encode(),
            key=key,
            headers=list(AttemptOutcome.kafka_headers()),
        )
        self.written += 1


@asynccontextmanager
async def processes(
    pipeline: Pipeline, folder: Path, roles: Sequence[str]
) -> AsyncIterator[Mapping[str, RoleProcess]]:
    """One process for each of these roles, all started at once."""
    url = pipeline.simulator.url
    tree = pipeline_settings(pipeline.broker, url, folder) | {"providers": entries(url)}
    made = {role: RoleProcess(tree, folder=folder, roles=role) for role in roles}
    async with AsyncExitStack() as stack:
        await asyncio.gather(*map(stack.enter_async_context, made.values()))
        yield made


async def test_every_join_ends_once_and_in_time_through_kills(
    real_broker: BrokerUnderTest, machine: MachinePauses, tmp_path: Path
) -> None:
    """Members that answer, are late or missing, up to five, with and without duplicates.

    Callers and validator are killed while the joins are open.
    """
    simulated = f"http://{PROVIDERS[0]}.invalid"
    async with (
        whole_pipeline(
            real_broker, tmp_path, roles=frozenset({Role.ROUTER}), providers=entries(simulated)
        ) as pipeline,
        processes(pipeline, tmp_path, ("caller", "validator")) as running,
    ):
        first = datetime.now(UTC) + timedelta(seconds=DEADLINE_SECONDS)
        asked: dict[str, Case] = {}
        deadlines: dict[str, datetime] = {}
        for number, case in enumerate(cases()):
            deadline = first + timedelta(seconds=number * STEP_SECONDS)
            route = {
                "strategy": case.strategy,
                "members": len(case.fates),
                "providers": list(PROVIDERS[: len(case.fates)]),
            }
            request_id = await pipeline.ask(
                "join", prompt=case.prompt(), route=route, deadline=deadline.isoformat()
            )
            asked[request_id], deadlines[request_id] = case, deadline
        duplicates = Duplicates(pipeline, {each for each, case in asked.items() if case.duplicated})
        watching = asyncio.create_task(duplicates.run())
        early = [each for each, case in asked.items() if set(case.fates) == {"answers"}]
        for request_id in early:
            await pipeline.topics.response(request_id)
        await running["validator"].kill()
        await running["caller"].kill()
        await asyncio.gather(running["validator"].start(), running["caller"].start())
        for request_id in asked:
            await pipeline.topics.response(request_id, seconds=DEADLINE_SECONDS + 20)
        watching.cancel()
        await asyncio.wait((watching,))
        names = TopicNames(pipeline.settings.kafka.topic_prefix)
        last = await pipeline.ask("last", prompt="Which?", route={"providers": [PROVIDERS[0]]})
        await pipeline.topics.response(last)
        records = await read_topic(real_broker, names.responses)

    ends = [(Response.decode(each.value, each.headers), each.timestamp) for each in records]
    different = {(end.request_id, end.encode()) for end, _ in ends}
    assert Counter(request_id for request_id, _ in different) == Counter([*asked, last])
    assert duplicates.written > 0
    late_answers = 0
    in_time = timedelta(seconds=1) + machine.longest
    for end, written in ends:
        case = asked.get(end.request_id)
        if case is None:
            continue
        deadline = deadlines[end.request_id]
        assert datetime.fromtimestamp(written / 1000, UTC) <= deadline + in_time, case
        assert end.ensemble is not None
        answered = end.ensemble.answered
        assert end.status == ("completed" if answered >= case.needed else "expired"), (case, end)
        if case.strategy == "parallel":
            assert answered == 1 if case.surely else answered <= 1, case
        else:
            assert case.surely <= answered <= case.perhaps, case
            late_answers += answered - case.surely
            if answered < len(case.fates):
                assert abs(end.completed_at - deadline) <= in_time, case
        assert end.text == ("yes" if end.status == "completed" else "")
    assert late_answers > 0
