"""Model servers of other makers, one of each for all tests, and a simulator behind the proxy."""

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from third_party_servers import (
    ANSWER,
    ServerProcess,
    ThirdPartyUnavailableError,
    aimock,
    ensure_installed,
    litellm_proxy,
)

from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import SimulatorSettings


def _installed(name: str) -> None:
    """Skip on a laptop that does not have it, fail where everything must run."""
    try:
        ensure_installed(name)
    except ThirdPartyUnavailableError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def upstream() -> AsyncIterator[Simulator]:
    """What some of the proxy's models ask; its ledger is the account of what they used."""
    async with Simulator(SimulatorSettings(answer_tokens=(20, 20))) as simulator:
        yield simulator


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def litellm(
    upstream: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ServerProcess]:
    """A LiteLLM proxy with mocked models, and with models that the simulator plays."""
    _installed("litellm")
    models: dict[str, dict[str, Any]] = {
        "openai-mock": {"model": "openai/gpt-4.1-mini", "mock_response": ANSWER},
        "anthropic-mock": {"model": "anthropic/claude-haiku-4-5", "mock_response": ANSWER},
        "unpriced": {"model": "openai/a-model-of-our-own", "mock_response": ANSWER},
        "limited": _mocked_error("RateLimitError"),
        "failing": _mocked_error("InternalServerError"),
        "short-sighted": _mocked_error("ContextWindowExceededError"),
        "late": {"model": "openai/gpt-4.1-mini", "mock_timeout": True, "timeout": 0.05},
        "openai-upstream": {
            "model": "openai/gpt-4.1-mini",
            "api_base": upstream.base_url("behind-openai", "openai"),
        },
        "anthropic-upstream": {
            "model": "anthropic/claude-haiku-4-5",
            "api_base": upstream.base_url("behind-anthropic", "anthropic"),
        },
    }
    folder = tmp_path_factory.mktemp("litellm")
    async with litellm_proxy(folder, models=models) as proxy:
        yield proxy


def _mocked_error(name: str) -> dict[str, str]:
    return {"model": "openai/gpt-4.1-mini", "mock_response": f"litellm.{name}"}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mock_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    """An aimock whose models each behave in their own way."""
    _installed("aimock")
    usage = {"prompt_tokens": 11, "completion_tokens": 7}
    usage |= {"input_tokens": 11, "output_tokens": 7}
    usage |= {"promptTokenCount": 11, "candidatesTokenCount": 7}
    look_up = {"name": "look_up", "arguments": '{"thing": "mill"}'}
    rows: list[dict[str, Any]] = [
        {
            "match": {"model": "limited"},
            "response": {
                "status": 429,
                "retryAfter": 7,
                "error": {"message": "no more words", "type": "rate_limit_error"},
            },
        },
        {
            "match": {"model": "failing"},
            "response": {
                "status": 503,
                "error": {"message": "no more words", "type": "server_error"},
            },
        },
        {"match": {"toolName": "look_up"}, "response": {"toolCalls": [look_up]}},
        {"match": {"model": "talker"}, "response": {"content": ANSWER, "usage": usage}},
        {
            "match": {"model": "thinker"},
            "response": {"content": ANSWER, "reasoning": "What drives it?", "usage": usage},
        },
        {
            "match": {"model": "stopped"},
            "response": {"content": "The wheel", "finishReason": "length"},
        },
        {
            "match": {"model": "breaking"},
            "response": {"content": ANSWER},
            "truncateAfterChunks": 5,
            "latency": 20,
        },
        {
            "match": {"model": "garbling"},
            "response": {"content": ANSWER},
            "chaos": {"malformedRate": 1},
        },
    ]
    fixtures = [{"chunkSize": 4, **row} for row in rows]
    async with aimock(tmp_path_factory.mktemp("aimock"), fixtures=fixtures) as server:
        yield server
