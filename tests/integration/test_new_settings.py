"""Settings that change while a pipeline runs: keys, limits, routes, budgets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from broker_under_test import BrokerUnderTest
from pipeline_process import toml
from pipeline_topics import PipelineTopics
from pipeline_under_test import (
    client_producer,
    eventually,
    pipeline_settings,
    request_body,
    running_pipeline,
    send_request,
)

from millrace.streams.config_source import ConfigSource
from millrace.streams.running_pipeline import RunningPipeline
from millrace.streams.topics import TopicNames

TWO_KEYS = {"FIRST_KEY": "k-1", "SECOND_KEY": "k-2"}


@dataclass
class Vendor:
    """A model server that takes the keys that are valid now, and answers after a moment."""

    keys: set[str] = field(default_factory=set)
    used: list[str] = field(default_factory=list)
    refused: int = 0
    waiting: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_get("/v1/models", self._models)
        return app

    async def holds(self, calls: int) -> bool:
        """Whether so many calls wait for an answer."""
        return self.waiting == calls

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": []})

    async def _answer(self, request: web.Request) -> web.Response:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key not in self.keys:
            self.refused += 1
            return web.json_response({"error": {"message": "wrong key"}}, status=401)
        self.used.append(key)
        if "hold" in orjson.dumps(await request.json()).decode():
            self.waiting += 1
            await self.go_on.wait()
        return web.json_response(
            {
                "id": "r",
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Yes."},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            }
        )


@dataclass
class Live:
    """A pipeline that follows files of its own."""

    folder: Path
    tree: dict[str, Any]
    running: RunningPipeline
    topics: PipelineTopics
    reload: asyncio.Event
    producer: Any
    requests: str

    def write_keys(self, **keys: str) -> None:
        """Change the file of variables."""
        _write_keys(self.folder, keys)

    def write_config(self, **sections: Any) -> None:
        """Change the config file."""
        self.tree.update(sections)
        (self.folder / "millrace.toml").write_text(toml(self.tree))

    async def send(self, request_id: str, *, prompt: str = "Is it?", **fields: Any) -> None:
        """Send a request."""
        body = request_body(request_id, prompt=prompt, stream=False, **fields)
        await send_request(self.producer, self.requests, body)

    def reloads(self, result: str) -> float:
        """How often new settings came to this."""
        name = "millrace_config_reloads_total"
        registry = self.running.tally.metrics.registry
        return registry.get_sample_value(name, {"result": result}) or 0.0

    async def reloaded(self, result: str = "applied", *, times: int = 1) -> None:
        """Wait until new settings have come to this."""

        async def done() -> bool:
            return self.reloads(result) >= times

        await eventually(done, f"new settings to be {result}")


def _write_keys(folder: Path, keys: dict[str, str]) -> None:
    lines = "".join(f"{name}={value}\n" for name, value in keys.items())
    (folder / "keys.env").write_text(lines)


def _settings_tree(
    broker: BrokerUnderTest, url: str, folder: Path, keys: dict[str, str], sections: dict[str, Any]
) -> dict[str, Any]:
    """Settings with one entry, whose keys are in these variables."""
    tree = pipeline_settings(broker, url, folder, **sections)
    tree["providers"] = {
        "vendor": {
            "wire": "openai",
            "base_url": f"{url}v1",
            "api_key_env": list(keys),
            "models": {"m": {}, "n": {}},
        }
    }
    tree["reload"] = {"poll_seconds": 0.05}
    return tree


@asynccontextmanager
async def live_pipeline(
    broker: BrokerUnderTest, folder: Path, vendor: Vendor, *, keys: dict[str, str], **sections: Any
) -> AsyncIterator[Live]:
    """Run a pipeline whose only entry is the vendor, on config files of its own."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(TestServer(vendor.app()))
        tree = _settings_tree(broker, str(server.make_url("/")), folder, keys, sections)
        _write_keys(folder, keys)
        (folder / "millrace.toml").write_text(toml(tree))
        source = ConfigSource(
            file=folder / "millrace.toml", environ={}, env_file=folder / "keys.env"
        )
        settings, environ = source.load()
        reload = asyncio.Event()
        running = running_pipeline(settings, broker, environ=environ, source=source, reload=reload)
        yield Live(
            folder=folder,
            tree=tree,
            running=await stack.enter_async_context(running),
            topics=await stack.enter_async_context(PipelineTopics(settings.kafka)),
            reload=reload,
            producer=await stack.enter_async_context(client_producer(broker)),
            requests=TopicNames(settings.kafka.topic_prefix).requests,
        )


async def test_keys_are_changed_under_load_and_no_request_fails(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Calls under way end with the key that they began with; the next ones have the new one."""
    vendor = Vendor(keys={"k-old"})
    async with live_pipeline(broker, tmp_path, vendor, keys={"VENDOR_KEY": "k-old"}) as live:
        for number in range(10):
            await live.send(f"held-{number}", prompt="hold")

        await eventually(lambda: vendor.holds(10), "calls to be under way")
        vendor.keys.add("k-new")
        sent = 0
        live.write_keys(VENDOR_KEY="k-new")
        while not live.reloads("applied"):
            await live.send(f"during-{sent}")
            sent += 1
            await live.topics.response(f"during-{sent - 1}")
        vendor.keys.discard("k-old")
        for number in range(20):
            await live.send(f"after-{number}")
        after = [await live.topics.response(f"after-{number}") for number in range(20)]
        vendor.go_on.set()
        before = [await live.topics.response(f"held-{number}") for number in range(10)]

        assert {each.status for each in (*before, *after)} == {"completed"}
        assert all(len(each.attempts) == 1 for each in (*before, *after))
        assert (vendor.refused, set(vendor.used[-20:])) == (0, {"k-new"})


@pytest.mark.parametrize("models", [["m"], ["m", "n"]])
async def test_a_call_whose_key_is_refused_is_made_with_another_one(
    broker: BrokerUnderTest, tmp_path: Path, models: list[str]
) -> None:
    """At the same model, also where another candidate is left: that one is not to blame."""
    vendor = Vendor(keys={"k-2"})
    async with live_pipeline(broker, tmp_path, vendor, keys=TWO_KEYS) as live:
        route = {"models": models, "prefer_models": ["m"]}
        for number in range(3):
            await live.send(f"{len(models)}-keys-{number}", route=route)
        names = [f"{len(models)}-keys-{number}" for number in range(3)]
        responses = [await live.topics.response(name) for name in names]

        assert {each.status for each in responses} == {"completed"}
        assert {each.model for each in responses} == {"m"}
        assert vendor.refused >= 1
        errors = [each.error.code for one in responses for each in one.attempts if each.error]
        assert errors == ["authentication_failed"] * vendor.refused


async def test_a_key_that_was_set_aside_is_tried_again_at_a_hangup(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """Its vendor took it back, and nobody wants to wait ten minutes."""
    vendor = Vendor(keys={"k-1"})
    async with live_pipeline(broker, tmp_path, vendor, keys=TWO_KEYS) as live:
        for number in range(2):
            await live.send(f"aside-{number}")
            await live.topics.response(f"aside-{number}")
        assert live.running.entries is not None
        provider = live.running.entries["vendor"].provider
        assert [each.alias for each in provider.keys_set_aside] == ["SECOND_KEY"]
        vendor.keys.add("k-2")
        live.reload.set()
        await live.reloaded()

        assert provider.keys_set_aside == ()


async def test_routes_and_limits_and_budgets_change_live(
    broker: BrokerUnderTest, tmp_path: Path
) -> None:
    """From the next record on; what cannot change is named, and the rest changes all the same."""
    vendor = Vendor(keys={"k"})
    budget = {"name": "all", "tokens": 1_000_000}
    routes = {"default": {"candidates": ["vendor/m"]}}
    sections = {"budgets": [budget], "routes": routes}
    async with live_pipeline(
        broker, tmp_path, vendor, keys={"VENDOR_KEY": "k"}, **sections
    ) as live:
        vendor_entry = live.tree["providers"]["vendor"]
        await live.send("first")
        first = await live.topics.response("first")
        live.write_config(
            routes={"default": {"candidates": ["vendor/n"]}},
            caller={**live.tree["caller"], "drain_seconds": 9.0},
        )
        await live.reloaded()
        await live.send("second")
        second = await live.topics.response("second")
        live.write_config(providers={"vendor": {**vendor_entry, "limits": {"in_flight": 1}}})
        await live.reloaded(times=2)
        for number in range(2):
            await live.send(f"held-{number}", prompt="hold")
        await eventually(lambda: vendor.holds(1), "a call to be under way")
        live.write_config(
            providers={"vendor": {**vendor_entry, "limits": {"in_flight": 2}}},
            budgets=[{**budget, "tokens": 1}],
        )
        await live.reloaded(times=3)
        await eventually(lambda: vendor.holds(2), "another one beside it")
        vendor.go_on.set()
        await live.send("third")
        third = await live.topics.response("third")

        assert (first.model, second.model) == ("m", "n")
        assert third.status == "rejected"
        assert third.error is not None
        assert third.error.code == "budget_exceeded"


async def test_bad_settings_change_nothing_and_are_told(
    broker: BrokerUnderTest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every problem at once; the process goes on as before."""
    vendor = Vendor(keys={"k"})
    async with live_pipeline(broker, tmp_path, vendor, keys={"VENDOR_KEY": "k"}) as live:
        live.write_config(routes={"default": {"members": 1, "colour": "blue"}})
        await live.reloaded("refused")
        await live.send("goes-on")
        response = await live.topics.response("goes-on")
        said = capsys.readouterr().out

        assert response.status == "completed"
        assert "routes.default.members" in said
        assert "routes.default.colour" in said
        assert live.reloads("applied") == 0
