"""Listing, downloading and loading the models of an Ollama server."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from millrace.providers.http_provider import HttpProvider
from millrace.providers.ollama_models import OllamaModels, PullProgress, StoredModel
from millrace.schemas.errors import (
    ProviderUnavailableError,
    ReplyInvalidError,
    RequestRefusedError,
)

STEPS: tuple[dict[str, Any], ...] = (
    {"status": "pulling manifest"},
    {"status": "pulling 6a0746a1ec1a", "digest": "sha256:6a", "total": 200},
    {"status": "pulling 6a0746a1ec1a", "digest": "sha256:6a", "total": 200, "completed": 120},
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
    {"status": "success"},
)


def _lines(*steps: Any) -> bytes:
    return b"".join(orjson.dumps(step) + b"\n" for step in steps)


@pytest.fixture
async def models(server: Any) -> AsyncIterator[OllamaModels]:
    """The models of the scripted server."""
    provider = server.provider("ollama")
    assert isinstance(provider, HttpProvider)
    yield OllamaModels(server=provider, keep_alive_seconds=600)
    await provider.aclose()


async def _pulled(models: OllamaModels, model: str = "llama3") -> list[PullProgress]:
    return [step async for step in models.pull(model)]


async def test_what_is_there_is_listed(server: Any, models: OllamaModels) -> None:
    """With its size; a server without models has none."""
    server.reply = (
        b'{"models":[{"name":"llama3:latest","size":47,"digest":"d"},{"name":"phi:mini"}]}',
    )
    assert await models.list() == (
        StoredModel("llama3:latest", 47, "d"),
        StoredModel("phi:mini", None, None),
    )
    assert str(server.requests[-1].url) == "http://server/base/api/tags"

    server.reply = (b'{"models":null}',)
    assert await models.list() == ()


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"models":[1]}', b"<html>"])
async def test_a_list_that_is_none(server: Any, models: OllamaModels, body: bytes) -> None:
    """Some other server answers there."""
    server.reply = (body,)

    with pytest.raises(ReplyInvalidError):
        await models.list()


async def test_a_name_without_tag_means_the_latest(server: Any, models: OllamaModels) -> None:
    """A port in the name is no tag."""
    server.reply = (
        b'{"models":[{"name":"llama3:latest"},{"name":"phi:mini"},{"name":"hub:1/a:latest"}]}',
    )

    missing = await models.missing(["llama3", "llama3:8b", "phi:mini", "phi", "hub:1/a", "hub:1/b"])

    assert missing == ("llama3:8b", "phi", "hub:1/b")


async def test_a_download_tells_how_far_it_is(server: Any, models: OllamaModels) -> None:
    """Step by step, until it is there."""
    server.reply = (_lines(*STEPS),)

    steps = await _pulled(models)

    assert orjson.loads(server.requests[-1].content) == {"model": "llama3", "stream": True}
    assert steps[2] == PullProgress(
        model="llama3",
        status="pulling 6a0746a1ec1a",
        digest="sha256:6a",
        total_bytes=200,
        completed_bytes=120,
    )
    assert [step.status for step in steps] == [step["status"] for step in STEPS]


async def test_a_model_that_nobody_has(server: Any, models: OllamaModels) -> None:
    """Asking again does not help."""
    error = {"error": "pull model manifest: file does not exist"}
    server.reply = (_lines(STEPS[0], error),)

    with pytest.raises(RequestRefusedError, match="no model 'lama3' to download") as failed:
        await _pulled(models, "lama3")

    assert failed.value.code == "model_not_found"


@pytest.mark.parametrize(
    "pieces",
    [
        (_lines(*STEPS[:3]),),
        (_lines(*STEPS[:3]), OSError("gone")),
        (),
    ],
)
async def test_a_download_that_breaks_off_is_no_success(
    server: Any, models: OllamaModels, pieces: tuple[Any, ...]
) -> None:
    """However it ends."""
    server.reply = pieces

    with pytest.raises(ProviderUnavailableError) as failed:
        await _pulled(models)

    assert failed.value.code == "stream_truncated"


async def test_a_download_that_fails(server: Any, models: OllamaModels) -> None:
    """Worth another try."""
    server.reply = (_lines(STEPS[0], {"error": "write /models/blobs: no space left on device"}),)

    with pytest.raises(ProviderUnavailableError) as failed:
        await _pulled(models)

    assert failed.value.retryable


async def test_a_download_reads_the_same_byte_by_byte(server: Any, models: OllamaModels) -> None:
    """Lines come cut anywhere."""
    server.reply = tuple(bytes([byte]) for byte in _lines(*STEPS))

    assert [step.status for step in await _pulled(models)] == [step["status"] for step in STEPS]


async def test_only_what_is_missing_is_downloaded(server: Any, models: OllamaModels) -> None:
    """And every step is told."""
    listed = b'{"models":[{"name":"phi:latest"}]}'
    server.reply = (listed,)
    assert await models.pull_missing(["phi"], on_progress=pytest.fail) == ()

    told: list[PullProgress] = []
    server.replies = {"/base/api/tags": (listed,), "/base/api/pull": (_lines(*STEPS),)}
    assert await models.pull_missing(["phi", "llama3"], on_progress=told.append) == ("llama3",)
    assert told[-1].status == "success"


async def test_a_model_is_loaded_before_it_is_asked(server: Any, models: OllamaModels) -> None:
    """And kept for as long as the entry says."""
    server.reply = (b'{"model":"llama3","done":true,"done_reason":"load","load_duration":4e9}',)

    assert await models.warm_up("llama3") == 4000.0

    assert str(server.requests[-1].url) == "http://server/base/api/generate"
    assert orjson.loads(server.requests[-1].content) == {
        "model": "llama3",
        "stream": False,
        "keep_alive": 600,
    }


@pytest.mark.parametrize(
    ("told", "code", "words"),
    [
        ((404, "model 'llama3' not found"), "model_not_found", "its models"),
        (
            (500, "model requires more system memory (5.5 GiB) than is available (3.2 GiB)"),
            "provider_unavailable",
            "not enough memory",
        ),
        (
            (500, "llama runner process has terminated: cudaMalloc failed: out of memory"),
            "provider_unavailable",
            "not enough memory",
        ),
        ((200, "CUDA error: out of memory"), "provider_unavailable", "not enough memory"),
    ],
)
async def test_why_a_model_is_not_loaded_is_said(
    server: Any, models: OllamaModels, told: tuple[int, str], code: str, words: str
) -> None:
    """In words of ours, which say what to do."""
    server.status, server.reply = told[0], (orjson.dumps({"error": told[1]}),)

    with pytest.raises((RequestRefusedError, ProviderUnavailableError), match=words) as failed:
        await models.warm_up("llama3")

    assert failed.value.code == code


async def test_calls_keep_the_model_loaded_as_set(server: Any) -> None:
    """Each call renews it; how long loading took is with its completion."""
    end = {
        "model": "m",
        "message": {"role": "assistant", "content": "Hi"},
        "done": True,
        "done_reason": "stop",
        "load_duration": 1_500_000,
    }

    done = await server.ask("ollama", _lines(end), keep_alive_seconds=-1)

    assert done.sent["keep_alive"] == -1
    assert done.completion.load_ms == 1.5
