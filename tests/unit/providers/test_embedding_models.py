"""Embedding models that need no description."""

from typing import Any

import pytest
from pydantic import ValidationError

from millrace.providers.embedding_models import embedding_facts
from millrace.providers.entry import ModelEntry, ProviderEntry
from millrace.streams.usual_providers import usual_providers


def models(wire: str, **models: dict[str, Any]) -> dict[str, ModelEntry]:
    """The models of an entry, as the config file names them."""
    given = {"wire": wire, "base_url": "http://localhost:1", "models": models}
    return ProviderEntry.model_validate(given).models


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        ("text-embedding-3-small", 1536),
        ("text-embedding-3-large", 3072),
        ("gemini-embedding-001", 3072),
        ("nomic-embed-text", 768),
        ("nomic-embed-text:latest", 768),
        ("nomic-ai/nomic-embed-text-v1.5", 768),
        ("BAAI/bge-m3", 1024),
        ("qwen3-embedding:8b", 4096),
        ("qwen3-embedding:latest", None),
        ("intfloat/e5-mistral-7b-instruct", None),
        ("acme-embed", None),
    ],
)
def test_embedding_models_are_known_by_name(name: str, dimensions: int | None) -> None:
    """With the length of their vectors where that is known."""
    facts = embedding_facts(name)

    assert facts is not None
    assert facts["capabilities"] == ["embeddings"]
    assert facts.get("dimensions") == dimensions


@pytest.mark.parametrize(
    "name", ["gpt-4.1", "llama3.2:3b", "bge-reranker-v2-m3", "gemini-2.5-flash", "e500", "gtex"]
)
def test_other_models_are_none(name: str) -> None:
    """A name that happens to begin alike says nothing."""
    assert embedding_facts(name) is None


def test_what_the_config_says_of_a_model_comes_first() -> None:
    """Also that it does not embed."""
    found = models(
        "openai",
        **{
            "text-embedding-3-small": {"dimensions": 512, "quality": 70},
            "embedded-c-coder": {"capabilities": ["code"]},
            "mine": {"capabilities": ["embeddings", "json"]},
        },
    )

    small = found["text-embedding-3-small"]
    assert small.capabilities == ("embeddings",)
    assert (small.dimensions, small.context_window, small.quality) == (512, 8192, 70)
    assert found["embedded-c-coder"] == ModelEntry(capabilities=("code",))
    assert found["mine"].capabilities == ("embeddings", "json")


def test_a_wire_without_embeddings_cannot_have_such_a_model() -> None:
    """It is said at the start, not with the first request."""
    assert models("anthropic", **{"claude-embed": {}})["claude-embed"].capabilities == ()
    with pytest.raises(ValidationError, match=r"'anthropic' has no embeddings.*vectors"):
        models("anthropic", vectors={"capabilities": ["embeddings"]})


def test_the_usual_variables_bring_embedding_models_along() -> None:
    """Beside those that chat, and each for one of the two."""
    entries = usual_providers(
        {
            "OPENAI_API_KEY": "k",
            "GEMINI_API_KEY": "k",
            "OLLAMA_BASE_URL": "http://localhost:1",
            "MILLRACE_OLLAMA_MODELS": "llama3.2, nomic-embed-text",
        }
    )
    embed = {
        (name, model)
        for name, entry in entries.items()
        for model, facts in ProviderEntry.model_validate(entry).models.items()
        if "embeddings" in facts.capabilities
    }

    assert embed == {
        ("openai", "text-embedding-3-small"),
        ("openai", "text-embedding-3-large"),
        ("gemini", "gemini-embedding-001"),
        ("ollama", "nomic-embed-text"),
    }
