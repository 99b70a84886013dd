"""SIGKILL between and within the later stages of joins: judges, merges, chains, tiers, parts."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from broker_under_test import BrokerUnderTest
from machine_pauses import MachinePauses
from pipeline_process import RoleProcess
from pipeline_under_test import Pipeline, pipeline_settings, read_topic, whole_pipeline

from millrace.providers.simulator.ledger import LedgerFilter
from millrace.schemas.response import Response
from millrace.streams.roles import Role
from millrace.streams.topics import TopicNames

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SLOW_MS = 5_000
"""Of the calls at whose time the processes are killed."""
DEADLINE_SECONDS = 32.0
SECTIONS = {
    "routes": {"default": {"tiers": [["openai/*", "gemini/*"], ["anthropic/*"]]}},
    "classification": {"models": ["gpt-4.1-mini"]},
}
CLOUD = ["openai", "anthropic", "gemini"]
FIRST = "Tell me"
JUDGING, MERGING = "Judge which of their answers is the best", "Write the one answer"
REFINING, RATING = "Give the improved answer", "How likely is it to be correct"
CLASSIFYING = "Say what kind of work it is"
DIVIDING, COMBINING = "Divide the work on it into parts", "Write the answer to the request"
IN_PARTS = "Part a\n\na part\n\nPart b\n\na part"
PARTS = json.dumps({"parts": [{"title": f"Part {n}", "instructions": "Do it."} for n in "ab"]})


@dataclass(frozen=True)
class Case:
    """A way to join, which of its stages is under way at the kill, and what comes of it."""

    route: dict[str, Any]
    slow: str
    """What is asked of the calls that are under way when the processes are killed."""
    says: dict[str, str]
    """What is answered to what is asked."""
    text: str
    by: str
    """What decided, `tier` for a cascade, or the task of a request with one member."""
    without: str = ""
    """What decides when that stage hangs; empty where its answer cannot be done without."""
    fallback: str = "the first"
    task: str | None = "general"

    def prompt(self, *, hangs: bool, label: str) -> str:
        """Command what is answered, and how slowly."""
        commands = []
        for asked, answer in self.says.items():
            how = f"answer={json.dumps(answer)}"
            if asked == self.slow:
                how = "hang" if hangs else f"{how} latency={SLOW_MS}"
                how += f" label={json.dumps(label)}"
            commands.append(f"[[sim:where={json.dumps(asked)} {how}]]")
        return f"Tell me about mills. {' '.join(commands)}"


def _ensemble(mode: str, **rest: Any) -> dict[str, Any]:
    return {"strategy": "ensemble", "mode": mode, "members": 3, "providers": CLOUD, **rest}


_MERGE = {FIRST: "the first", MERGING: "merged"}
_JUDGE = {FIRST: "the first", JUDGING: '{"best": 2, "reason": "because"}'}
_CHAIN = {FIRST: "the first", REFINING: "refined"}
_DELEGATE = {FIRST: "the first", DIVIDING: PARTS, "Part: Part": "a part", COMBINING: "combined"}
_CLIMB = {FIRST: "the first", RATING: '{"confidence": 0.1}'}
_NAME = {FIRST: "the first", CLASSIFYING: '{"task": "reasoning", "confidence": 0.9}'}
_RATED = {"strategy": "cascade", "confidence": "self_rating", "thresholds": [0.6],
          "providers": ["openai", "anthropic"]}  # fmt: skip
_DIVIDE = {"strategy": "delegate", "providers": CLOUD, "max_parts": 3}
_JUDGED = _ensemble("best_of", judge="gpt-4.1-mini")

CASES = (
    Case(_ensemble("merge"), FIRST, _MERGE, "merged", "merge"),
    Case(_ensemble("merge"), MERGING, _MERGE, "merged", "merge", without="vote"),
    Case(_JUDGED, JUDGING, _JUDGE, "the first", "judge", without="score"),
    Case(_ensemble("chain"), REFINING, _CHAIN, "refined", "refine"),
    Case(_ensemble("chain", quorum=1), REFINING, _CHAIN, "refined", "refine", without="first"),
    Case(_DIVIDE, DIVIDING, _DELEGATE, "combined", "combine"),
    Case(_DIVIDE, "Part: Part", _DELEGATE, "combined", "combine"),
    Case(_DIVIDE, COMBINING, _DELEGATE, "combined", "combine", "parts", IN_PARTS),
    Case({"providers": CLOUD}, CLASSIFYING, _NAME, "the first", "reasoning", task=None),
    Case(_ensemble("vote"), CLASSIFYING, _NAME, "the first", "vote", task=None),
    Case(_RATED, RATING, _CLIMB, "the first", "tier"),
)


def cases() -> list[tuple[Case, bool]]:
    """Each as it is meant, and with the stage hanging where the rest can do without it."""
    both = product(CASES, (False, True))
    return [(case, hangs) for case, hangs in both if case.without or not hangs]


def decided(end: Response) -> str:
    """What the response says of who decided."""
    if end.cascade is not None:
        return "tier"
    return str(end.ensemble.decided_by if end.ensemble is not None else end.task)


async def kill(*processes: RoleProcess) -> None:
    """All at once, and start them again."""
    await asyncio.gather(*(each.kill() for each in processes))
    await asyncio.gather(*(each.start() for each in processes))


async def under_way(pipeline: Pipeline, labels: list[str]) -> None:
    """Wait until every case has a call of its slow stage open at its provider."""
    await pipeline.simulator.ledger.until(
        lambda ledger: all(any(ledger.lines(LedgerFilter(label=each))) for each in labels)
    )


@pytest.mark.timeout(180)
async def test_every_stage_ends_once_and_as_meant_through_kills(
    real_broker: BrokerUnderTest, machine: MachinePauses, tmp_path: Path
) -> None:
    """Killed while calls of the stage are open; one that hangs is done without at the deadline."""
    async with whole_pipeline(
        real_broker, tmp_path, roles=frozenset({Role.ROUTER}), **SECTIONS
    ) as pipeline:
        tree = pipeline_settings(real_broker, pipeline.simulator.url, tmp_path, **SECTIONS)
        async with (
            RoleProcess(tree, folder=tmp_path, roles="validator") as validator,
            RoleProcess(tree, folder=tmp_path, roles="caller") as caller,
        ):
            deadline = datetime.now(UTC) + timedelta(seconds=DEADLINE_SECONDS)
            asked: dict[str, tuple[Case, bool]] = {}
            for number, (case, hangs) in enumerate(cases()):
                request_id = await pipeline.ask(
                    "stage",
                    **({"task": case.task} if case.task else {}),
                    prompt=case.prompt(hangs=hangs, label=f"slow-{number}"),
                    route=case.route,
                    deadline=deadline.isoformat(),
                )
                asked[request_id] = case, hangs
            await under_way(pipeline, [f"slow-{number}" for number in range(len(asked))])
            await kill(validator, caller)
            for request_id in asked:
                await pipeline.topics.response(request_id, seconds=DEADLINE_SECONDS + 20)
            last = await pipeline.ask("last", route={"providers": ["openai"]})
            await pipeline.topics.response(last)
        names = TopicNames(pipeline.settings.kafka.topic_prefix)
        records = await read_topic(real_broker, names.responses)

    ends = [Response.decode(each.value, each.headers) for each in records]
    different = {(end.request_id, end.encode()) for end in ends}
    assert Counter(request_id for request_id, _ in different) == Counter([*asked, last])
    in_time = timedelta(seconds=1) + machine.longest
    for end in ends:
        if end.request_id == last:
            continue
        case, hangs = asked[end.request_id]
        assert end.status == "completed", (case, end)
        assert decided(end) == (case.without if hangs else case.by), (case, end)
        assert end.text.rstrip(".") == (case.fallback if hangs else case.text), (case, end)
        if hangs:
            assert abs(end.completed_at - deadline) <= in_time, (case, end)
        else:
            assert end.completed_at < deadline, (case, end)
