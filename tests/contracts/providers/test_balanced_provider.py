"""One entry over several servers and several keys."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from millrace.providers.balanced_provider import BalancedProvider
from millrace.providers.entry import ProviderEntry, Timeouts
from millrace.providers.http_provider import HttpProvider
from millrace.providers.protocol import Completion, EmbeddingRequest, ModelRequest, ModelServer
from millrace.providers.registry import build_provider
from millrace.providers.simulator.server import Simulator
from millrace.schemas.errors import (
    ConfigurationError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
    RequestRefusedError,
)
from millrace.schemas.message import Message
from millrace.schemas.provider_health import KeyAside

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ENVIRON = {"KEY_A": "sk-a", "KEY_B": "sk-b", "KEY_C": "sk-c"}


@dataclass
class Vendor:
    """A server that judges keys, and knows how it was asked."""

    url: str = ""
    refused: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """By key: the status and the error it gets."""
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a call, or the list of models."""
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.asked.append(key)
        if key in self.refused:
            status, error = self.refused[key]
            if request.method == "POST" or status == 401:
                return web.json_response({"error": error}, status=status)
        if request.path.endswith("/embeddings"):
            return web.json_response({"data": [{"index": 0, "embedding": [1.0]}]})
        message = {"role": "assistant", "content": "Hi"}
        return web.json_response(
            {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        )


@pytest.fixture
async def vendors() -> AsyncIterator[list[Vendor]]:
    """Two servers of one vendor."""
    runners, made = [], []
    for _ in range(2):
        vendor = Vendor()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", vendor.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        vendor.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        runners.append(runner)
        made.append(vendor)
    yield made
    for runner in runners:
        await runner.cleanup()


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        """Of day."""
        return NOW + timedelta(seconds=self.seconds - 1000)


@pytest.fixture
def clock() -> Clock:
    """The test's own time."""
    return Clock()


@pytest.fixture
async def build(clock: Clock) -> AsyncIterator[Any]:
    """Makes providers, and closes them."""
    made: list[ModelServer] = []

    def make(**fields: Any) -> ModelServer:
        timeouts = Timeouts(connect=5, first_token=5, idle=5)
        entry = ProviderEntry.model_validate({"wire": "openai", "timeouts": timeouts, **fields})
        provider = build_provider(
            "pool", entry, environ=ENVIRON, now=clock.now, monotonic=clock, draw=lambda: 0.5
        )
        made.append(provider)
        return provider

    yield make
    for provider in made:
        await provider.aclose()


async def ask(provider: ModelServer) -> str | None:
    """Make a call; whose key it was."""
    request = ModelRequest(
        model="m", messages=(Message(role="user", content="Hello"),), stream=False
    )
    events = [event async for event in provider.ask(request)]
    assert isinstance(events[-1], Completion)
    return events[-1].key_alias


async def test_a_single_server_and_key_need_no_balance(vendors: list[Vendor], build: Any) -> None:
    """Nothing stands between."""
    provider = build(base_url=vendors[0].url, api_key_env=("KEY_A",))

    assert isinstance(provider, HttpProvider)
    assert await ask(provider) == "KEY_A"
    assert provider.keys_set_aside == ()


async def test_keys_take_turns_and_completions_name_them(vendors: list[Vendor], build: Any) -> None:
    """By alias; the secret goes to the server alone."""
    provider = build(base_url=vendors[0].url, api_key_env=("KEY_A", "KEY_B"))

    assert isinstance(provider, BalancedProvider)
    assert [await ask(provider) for _ in range(4)] == ["KEY_A", "KEY_B", "KEY_A", "KEY_B"]
    assert vendors[0].asked == ["sk-a", "sk-b", "sk-a", "sk-b"]


async def test_servers_share_calls_by_weight(vendors: list[Vendor], build: Any) -> None:
    """However many keys each has."""
    provider = build(
        instances=(
            {"url": vendors[0].url, "weight": 3, "api_key_env": ("KEY_A", "KEY_B")},
            {"url": vendors[1].url, "weight": 1},
        ),
        api_key_env=("KEY_C",),
        balance="weighted",
    )

    for _ in range(16):
        await ask(provider)

    assert [len(vendor.asked) for vendor in vendors] == [12, 4]
    assert sorted(vendors[0].asked) == ["sk-a"] * 6 + ["sk-b"] * 6
    assert set(vendors[1].asked) == {"sk-c"}


@pytest.mark.parametrize("balance", ["round_robin", "weighted", "least_in_flight", "latency_aware"])
async def test_no_policy_leaves_a_call_behind(
    vendors: list[Vendor], build: Any, balance: str
) -> None:
    """Whatever ends a call, its place is free again."""
    provider = build(instances=({"url": vendors[0].url}, {"url": vendors[1].url}), balance=balance)

    await asyncio.gather(*(ask(provider) for _ in range(20)))
    vendors[0].refused[""] = vendors[1].refused[""] = (400, {})
    with pytest.raises(RequestRefusedError):
        await ask(provider)

    assert set(provider._balancer.in_flight.values()) == {0}
    assert sum(len(vendor.asked) for vendor in vendors) == 21


@pytest.mark.parametrize(
    ("answer", "reason", "seconds"),
    [
        ((401, {"code": "invalid_api_key"}), "authentication_failed", 600),
        ((429, {"code": "insufficient_quota"}), "rate_limited", 3600),
        ((402, {}), "rate_limited", 3600),
    ],
)
async def test_a_key_that_is_no_use_is_set_aside_and_reported(
    vendors: list[Vendor], build: Any, answer: tuple[int, Any], reason: Any, seconds: int
) -> None:
    """The call that found out fails and names the key; the next ones have the other key."""
    vendors[0].refused["sk-a"] = answer
    provider = build(base_url=vendors[0].url, api_key_env=("KEY_A", "KEY_B"))

    with pytest.raises(ProviderError) as failed:
        await ask(provider)

    assert (failed.value.code, failed.value.key_alias) == (reason, "KEY_A")
    assert (failed.value.other_key, failed.value.retryable) == (True, True)
    assert failed.value.retry_after is None
    assert [await ask(provider) for _ in range(3)] == ["KEY_B"] * 3
    assert provider.keys_set_aside == (
        KeyAside(alias="KEY_A", reason=reason, until=NOW + timedelta(seconds=seconds)),
    )


async def test_a_key_comes_back_when_its_time_is_over(
    vendors: list[Vendor], build: Any, clock: Clock
) -> None:
    """Found out by a call."""
    vendors[0].refused["sk-a"] = (401, {})
    provider = build(base_url=vendors[0].url, api_key_env=("KEY_A", "KEY_B"))
    with pytest.raises(RequestRefusedError):
        await ask(provider)

    vendors[0].refused.clear()
    clock.seconds += 601

    assert provider.keys_set_aside == ()
    assert {await ask(provider) for _ in range(2)} == {"KEY_A", "KEY_B"}


async def test_a_check_brings_back_a_key_that_works_again(
    vendors: list[Vendor], build: Any
) -> None:
    """But not one without credit, which can list models still."""
    vendors[0].refused = {"sk-a": (401, {}), "sk-b": (402, {})}
    provider = build(base_url=vendors[0].url, api_key_env=("KEY_A", "KEY_B", "KEY_C"))
    for _ in range(2):
        with pytest.raises(ProviderError):
            await ask(provider)
    await provider.check()
    assert {key.alias for key in provider.keys_set_aside} == {"KEY_A", "KEY_B"}

    vendors[0].refused.clear()
    await provider.check()

    assert {key.alias for key in provider.keys_set_aside} == {"KEY_B"}


async def test_a_check_finds_a_bad_key_before_any_call(vendors: list[Vendor], build: Any) -> None:
    """It fails only when nothing works."""
    vendors[0].refused["sk-a"] = (401, {})
    provider = build(base_url=vendors[0].url, api_key_env=("KEY_A", "KEY_B"))

    await provider.check()
    assert [key.alias for key in provider.keys_set_aside] == ["KEY_A"]

    vendors[0].refused["sk-b"] = (401, {})
    with pytest.raises(RequestRefusedError) as failed:
        await provider.check()
    assert failed.value.code == "authentication_failed"


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [(401, RequestRefusedError, "check the keys"), (402, RateLimitedError, "credit is used up")],
)
async def test_when_no_key_is_left_the_server_is_not_asked(
    vendors: list[Vendor], build: Any, status: int, kind: type[ProviderError], words: str
) -> None:
    """The message names each variable and why, and no key."""
    vendors[0].refused = {"sk-a": (status, {}), "sk-b": (status, {})}
    provider = build(base_url=vendors[0].url, api_key_env=("KEY_A", "KEY_B"))
    with pytest.raises(kind) as first:
        await ask(provider)
    with pytest.raises(kind) as last:
        await ask(provider)
    assert (first.value.other_key, last.value.other_key) == (True, False)
    assert not last.value.retryable

    with pytest.raises(kind, match=words) as failed:
        await ask(provider)

    assert len(vendors[0].asked) == 2
    assert "KEY_A" in failed.value.message
    assert "KEY_B" in failed.value.message
    assert "sk-" not in failed.value.message
    assert not failed.value.retryable


@pytest.mark.parametrize("status", [403, 429])
async def test_a_key_that_is_good_stays(vendors: list[Vendor], build: Any, status: int) -> None:
    """One that may not use a model, or is asked to slow down."""
    vendors[0].refused["sk-a"] = (status, {})
    provider = build(base_url=vendors[0].url, api_key_env=("KEY_A", "KEY_B"))

    with pytest.raises(ProviderError):
        await ask(provider)

    assert provider.keys_set_aside == ()


async def test_a_server_that_is_down_is_passed_over_for_a_while(
    vendors: list[Vendor], build: Any, clock: Clock
) -> None:
    """While another one is there; it is no key's fault."""
    vendors[0].refused["sk-a"] = (503, {})
    provider = build(
        instances=({"url": vendors[0].url}, {"url": vendors[1].url}), api_key_env=("KEY_A",)
    )

    with pytest.raises(ProviderUnavailableError):
        await ask(provider)
    for _ in range(4):
        await ask(provider)
    assert [len(vendor.asked) for vendor in vendors] == [1, 4]
    assert provider.keys_set_aside == ()

    clock.seconds += 6
    vendors[0].refused.clear()
    for _ in range(2):
        await ask(provider)
    assert [len(vendor.asked) for vendor in vendors] == [2, 5]


async def test_the_last_server_is_asked_even_if_it_is_down(
    vendors: list[Vendor], build: Any
) -> None:
    """There is nothing to lose."""
    for vendor in vendors:
        vendor.refused[""] = (503, {})
    provider = build(instances=({"url": vendors[0].url}, {"url": vendors[1].url}))

    for _ in range(4):
        with pytest.raises(ProviderUnavailableError, match="HTTP 503"):
            await ask(provider)

    assert [len(vendor.asked) for vendor in vendors] == [1, 3]


async def test_embeddings_are_balanced_too(vendors: list[Vendor], build: Any) -> None:
    """By the same rules."""
    vendors[0].refused["sk-a"] = (401, {})
    provider = build(base_url=vendors[0].url, api_key_env=("KEY_A", "KEY_B"))
    request = EmbeddingRequest(model="m", inputs=("x",))

    with pytest.raises(RequestRefusedError) as failed:
        await provider.embed(request)
    replies = [await provider.embed(request) for _ in range(2)]

    assert failed.value.key_alias == "KEY_A"
    assert [reply.key_alias for reply in replies] == ["KEY_B", "KEY_B"]


async def test_breaking_a_call_off_gives_its_place_back() -> None:
    """By closing the iterator, as by cancelling."""
    async with Simulator() as simulator:
        entry = ProviderEntry.model_validate(
            {
                "wire": "ollama",
                "instances": [
                    {"url": simulator.base_url(name, "ollama")} for name in ("one", "two")
                ],
                "balance": "least_in_flight",
            }
        )
        provider = build_provider("pool", entry, environ={})
        assert isinstance(provider, BalancedProvider)
        request = ModelRequest(
            model="m", messages=(Message(role="user", content="[[sim: pace=50]] Go on"),)
        )
        for _ in range(3):
            reply = provider.ask(request)
            await anext(reply)
            assert sorted(provider._balancer.in_flight.values()) == [0, 1]
            await reply.aclose()
            assert set(provider._balancer.in_flight.values()) == {0}
        await provider.aclose()

        with pytest.raises(ProviderUnavailableError, match="closed"):
            await ask(provider)


def test_keys_are_read_before_anything_is_opened() -> None:
    """A missing one is a setting to change, named."""
    entry = ProviderEntry.model_validate(
        {
            "wire": "openai",
            "instances": [{"url": "http://a/v1"}, {"url": "http://b/v1", "api_key_env": ["NONE"]}],
            "api_key_env": ["KEY_A"],
        }
    )

    with pytest.raises(ConfigurationError, match="NONE"):
        build_provider("pool", entry, environ=ENVIRON)


async def test_each_server_has_the_proxy_that_is_meant_for_it(vendors: list[Vendor]) -> None:
    """`NO_PROXY` may name one of them."""
    entry = ProviderEntry.model_validate(
        {"wire": "openai", "instances": [{"url": vendors[0].url}, {"url": "http://far.example/v1"}]}
    )
    proxy = vendors[1].url.removesuffix("/v1")
    environ = {"HTTP_PROXY": proxy, "NO_PROXY": "127.0.0.1"}
    provider = build_provider("pool", entry, environ=environ)

    assert [await ask(provider) for _ in range(2)] == [None, None]

    await provider.aclose()
    assert [len(vendor.asked) for vendor in vendors] == [1, 1]
