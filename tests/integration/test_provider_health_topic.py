"""What callers tell of their providers, and what routers and people make of it."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
from broker_under_test import BrokerUnderTest
from pipeline_under_test import (
    Pipeline,
    eventually,
    provider_entries,
    read_topic,
    whole_pipeline,
)

from millrace.providers.simulator.server import Simulator
from millrace.schemas.provider_health import ProviderHealth
from millrace.streams.topics import TopicNames

NOBODY = "http://127.0.0.1:9"
"""Port 9 discards; nobody listens there."""
HEALTH = {
    "interval_seconds": 0.2,
    "stale_seconds": 20.0,
    "check_seconds": 0.5,
    "recheck_seconds": 0.2,
}


async def said(pipeline: Pipeline) -> dict[str, ProviderHealth]:
    """The newest report under each key of the health topic."""
    topic = TopicNames(pipeline.settings.kafka.topic_prefix).provider_health
    records = await read_topic(pipeline.broker, topic)
    return {
        record.key.decode(): ProviderHealth.decode(record.value, tuple(record.headers))
        for record in records
    }


async def test_an_entry_out_of_reach_is_passed_by_before_the_first_call(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """A check finds out; the request that prefers it is not sent there, and its plan says so."""
    async with Simulator() as answering:
        entries = provider_entries(answering.url)
        entries["openai"]["base_url"] = f"{NOBODY}/openai/v1"
        async with whole_pipeline(broker, tmp_path, providers=entries, health=HEALTH) as pipeline:

            async def known() -> bool:
                reports = await said(pipeline)
                return "openai" in reports and reports["openai"].state == "open"

            await eventually(known, "the check of openai to fail")
            request_id = await pipeline.ask(
                "elsewhere",
                route={"providers": ["openai", "anthropic"], "prefer_providers": ["openai"]},
            )
            response = await pipeline.topics.response(request_id)

            assert [each.provider for each in response.attempts] == ["anthropic"]
            assert (await said(pipeline))["anthropic"].state == "closed"


async def test_a_plan_made_for_a_task_that_a_model_named_heeds_health(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """The validator makes it, and it passes by what is out of reach as a router would."""
    routes = {"reasoning": {"candidates": ["openai/*", "anthropic/*"], "allow_unlisted": False}}
    named = json.dumps(json.dumps({"task": "reasoning", "confidence": 0.9}))
    prompt = f'Would you? [[sim:where="Say what kind of work it is" answer={named}]]'
    async with Simulator() as answering:
        entries = provider_entries(answering.url)
        entries["openai"]["base_url"] = f"{NOBODY}/openai/v1"
        async with whole_pipeline(
            broker,
            tmp_path,
            providers=entries,
            health=HEALTH,
            routes=routes,
            classification={"models": ["llama3.2"]},
        ) as pipeline:

            async def known() -> bool:
                reports = await said(pipeline)
                return "openai" in reports and reports["openai"].state == "open"

            await eventually(known, "the check of openai to fail")
            wishes = {"prefer_providers": ["openai"]}
            request_id = await pipeline.ask("unnamed", prompt=prompt, route=wishes)
            response = await pipeline.topics.response(request_id)

            assert (response.status, response.task) == ("completed", "reasoning")
            assert [each.provider for each in response.attempts] == ["ollama", "anthropic"]


async def test_an_entry_recovers_by_itself(broker: BrokerUnderTest, tmp_path: Path) -> None:
    """The next check that reaches it is enough; no call has to be risked."""
    async with Simulator() as answering:
        port = int(answering.url.rpartition(":")[2])
    entries = provider_entries(f"http://127.0.0.1:{port}")
    async with whole_pipeline(broker, tmp_path, providers=entries, health=HEALTH) as pipeline:

        async def state(wanted: str) -> bool:
            reports = await said(pipeline)
            return "openai" in reports and reports["openai"].state == wanted

        await eventually(lambda: state("open"), "openai to be found out of reach")
        async with Simulator(port=port):
            await eventually(lambda: state("closed"), "openai to be reached again")


async def test_reports_and_metrics_tell_what_calls_measured(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Latency, errors and load of each entry and model; `millrace providers` shows them."""
    async with whole_pipeline(broker, tmp_path, health=HEALTH) as pipeline:
        request_id = await pipeline.ask("measured", route={"providers": ["openai"]})
        await pipeline.topics.response(request_id)

        async def told() -> bool:
            reports = await said(pipeline)
            model = reports.get("openai/gpt-4.1-mini")
            return (
                model is not None and model.first_token_ms is not None and not reports["openai"].lag
            )

        await eventually(told, "a report of the model")
        reports = await said(pipeline)
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"{pipeline.running.url}/metrics") as answer,
        ):
            page = await answer.text()
        assert reports["openai"].lag == 0
        assert reports["openai/gpt-4.1-mini"].calls == 1
        line = 'millrace_calls_total{model="gpt-4.1-mini",provider="openai",status="completed"} 1.0'
        assert line in page
        assert 'millrace_circuit_state{model="",provider="openai",state="closed"} 1.0' in page
        assert 'millrace_lag_records{part="calls.openai"} 0.0' in page

        shown = await asyncio.to_thread(_providers, pipeline, tmp_path)
        document = json.loads(shown.stdout)
        assert (shown.returncode, document["works"]) == (0, True)
        standing = {(each["provider"], each["model"]): each for each in document["providers"]}
        assert standing["openai", "gpt-4.1-mini"]["first_token_ms"] > 0
        assert standing["ollama", None]["state"] == "closed"


def _providers(pipeline: Pipeline, folder: Path) -> "subprocess.CompletedProcess[bytes]":
    """Run `millrace providers --json` against the pipeline's broker."""
    config = folder / "shown.toml"
    names = "".join(
        f'[providers.{name}]\nwire = "openai"\nbase_url = "http://a"\n'
        for name in pipeline.settings.providers
    )
    config.write_text(names)
    kafka = pipeline.settings.kafka
    environ = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "KAFKA_BOOTSTRAP_SERVERS": ",".join(kafka.bootstrap_servers or ()),
        "MILLRACE_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
    }
    script = "from millrace.streams.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, "providers", "--json", "--config", str(config)],
        capture_output=True,
        env=environ,
        timeout=60,
        check=False,
    )
