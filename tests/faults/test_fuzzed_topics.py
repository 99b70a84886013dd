"""Anything at all on the topics between the parts, which only Millrace should write to."""

import asyncio
import base64
import json
import os
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from damaged_records import damaged
from harness.cluster import PROMPT_MARK, Cluster, cluster
from harness.fuzz import NEIGHBOURS, inputs
from harness.load import Load
from harness.watch import Watch

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

COUNT = int(os.environ.get("MILLRACE_FUZZ_RECORDS", "40"))
"""On each topic, of each kind."""
SEED = int(os.environ.get("MILLRACE_FAULTS_SEED", "1"))
RECORDS = {
    "calls.openai": ("call",),
    "outcomes": ("outcome", "refusal", "join-opened", "join-timeout"),
    "usage": ("usage-event", "budget-claim", "budget-settlement", "budget-release"),
    "retries": ("retry",),
    "cancellations": ("cancellation",),
    "provider-health": ("provider-health",),
    "responses": ("response",),
    "evaluations": ("response",),
}
"""Topics that Millrace reads, and what lies there. Anybody may read the last two as well."""
Place = tuple[str, int, int]


def records(draw: random.Random, topic: str) -> Iterator[tuple[bytes, str | None]]:
    """Values for a topic, and what their header says that they are."""
    name = draw.choice(RECORDS[topic])
    for number in range(COUNT):
        yield damaged(draw, name, f"{topic}-{SEED}-{number}"), draw.choice((name, name, None))


async def send(running: Cluster) -> dict[Place, bytes]:
    """Both kinds to every topic; returns where what can be no record of any topic lies."""
    draw = random.Random(f"topics {SEED}")
    certain: dict[Place, bytes] = {}
    async with AIOKafkaProducer(
        bootstrap_servers=running.bootstrap_servers, max_request_size=8_000_000
    ) as producer:
        for topic in RECORDS:
            full = running.topic(topic)
            for each in inputs(COUNT, seed=SEED):
                assert each.value is not None
                # A broker refuses records without a key where it compacts.
                at = await producer.send_and_wait(full, each.value, key=each.key or b"key")
                certain[at.topic, at.partition, at.offset] = each.value
            for value, schema in records(draw, topic):
                headers = [] if schema is None else [("schema", schema.encode())]
                await producer.send_and_wait(full, value, key=draw.randbytes(4), headers=headers)
    return certain


async def letters(running: Cluster, wanted: dict[Place, bytes]) -> dict[Place, dict[str, Any]]:
    """The dead letters by what they are about, once all that are wanted are there."""
    found: dict[Place, dict[str, Any]] = {}
    async with AIOKafkaConsumer(
        running.topic("dead-letters"),
        bootstrap_servers=running.bootstrap_servers,
        auto_offset_reset="earliest",
    ) as consumer:
        async with asyncio.timeout(60):
            while not wanted.keys() <= found.keys():
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    for record in batch:
                        body = json.loads(record.value)
                        found[body["topic"], body["partition"], body["offset"]] = body
    return found


async def served(running: Cluster, seed: int) -> None:
    """Good requests are answered, once each."""
    servers = running.bootstrap_servers
    statuses: dict[str, list[str]] = defaultdict(list)
    async with (
        Load(
            bootstrap_servers=servers,
            topic=running.topic("requests"),
            mark=PROMPT_MARK,
            seed=seed,
        ) as load,
        AIOKafkaConsumer(running.topic("responses"), bootstrap_servers=servers) as consumer,
    ):
        # What was sent there as junk is of no interest.
        await consumer.seek_to_end()
        for partition in consumer.assignment():
            await consumer.position(partition)
        ids = await load.send(40, kinds=NEIGHBOURS)
        async with asyncio.timeout(60):
            while not all(statuses[each] for each in ids):
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    for record in batch:
                        body = json.loads(record.value)
                        statuses[body["request_id"]].append(body["status"])
    assert [statuses[each] for each in ids] == [["completed"]] * 40


async def spoil_changelogs(running: Cluster) -> None:
    """Write what is no state to the tables' changelogs."""
    async with AIOKafkaProducer(bootstrap_servers=running.bootstrap_servers) as producer:
        for table in ("router-seen", "validator-joins"):
            topic = f"{running.app_id}-{table}-changelog"
            for number, junk in enumerate((b"junk", b"\x00\xff", b"7", b"[0, 1.0, {}]", b"[]")):
                for partition in range(running.partitions):
                    key = b"\xff%d" % number
                    await producer.send_and_wait(topic, junk, key=key, partition=partition)


@pytest.mark.timeout(300)
async def test_junk_between_the_parts_stops_nobody(tmp_path: Path, kafka_script: object) -> None:
    """What is no record is a dead letter, byte for byte; every part goes on, also after a start."""
    async with cluster(tmp_path, seed=SEED, proxied=False) as running:
        async with Watch(cluster=running) as watch:
            certain = await send(running)
            found = await letters(running, certain)
            await served(running, SEED)
            await watch.until_no_lag(seconds=60)
        for place, value in certain.items():
            assert _bytes(found[place]["value"]) == value
        faults = [each for each in found.values() if each["error"]["code"] == "internal_error"]
        assert not faults, [(each["topic"], each["value"]) for each in faults[:3]]
        assert [each.name for each in running.workers.values() if each.pid is None] == []

        await spoil_changelogs(running)
        for role in ("router", "validator", "caller", "sink"):
            await running.workers[role].terminate()
            await running.workers[role].start()
        await served(running, SEED + 1)


def _bytes(blob: dict[str, str]) -> bytes:
    if blob["encoding"] == "base64":
        return base64.b64decode(blob["content"])
    return blob["content"].encode()
