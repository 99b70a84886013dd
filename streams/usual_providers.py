"""The provider entries that the usual environment variables alone bring about.

Model names and context windows are those the vendors' documentation gave in 2026; any of them
is replaced by naming the provider in the config file.
"""

from collections.abc import Callable, Mapping
from typing import Any

from millrace.providers.embedding_models import embedding_facts

_TEXT_TOOLS = ["tools", "json", "json_schema"]


def _cloud(
    wire: str, url: str, key: str, prices: str, models: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    return {
        "wire": wire,
        "base_url": url,
        "api_key_env": [key],
        "prices": prices,
        "hardware": "cloud",
        "models": models,
    }


def _model(quality: int, window: int, *extra: str) -> dict[str, Any]:
    return {
        "quality": quality,
        "context_window": window,
        "capabilities": [*_TEXT_TOOLS, *extra],
    }


def _openai(environ: Mapping[str, str]) -> dict[str, Any]:
    url = environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    return _cloud(
        "openai",
        url,
        "OPENAI_API_KEY",
        "openai",
        {
            "gpt-4.1": _model(80, 1_047_576, "vision", "code", "long_context"),
            "gpt-4.1-mini": _model(60, 1_047_576, "vision", "code", "long_context"),
            "gpt-4.1-nano": _model(40, 1_047_576, "vision", "long_context"),
            "text-embedding-3-large": {"quality": 60},
            "text-embedding-3-small": {},
        },
    )


def _anthropic(_: Mapping[str, str]) -> dict[str, Any]:
    return _cloud(
        "anthropic",
        "https://api.anthropic.com",
        "ANTHROPIC_API_KEY",
        "anthropic",
        {
            "claude-sonnet-4-5": _model(85, 200_000, "vision", "code", "reasoning"),
            "claude-haiku-4-5": _model(65, 200_000, "vision", "code"),
        },
    )


def _gemini(_: Mapping[str, str]) -> dict[str, Any]:
    return _cloud(
        "gemini",
        "https://generativelanguage.googleapis.com",
        "GEMINI_API_KEY",
        "google",
        {
            "gemini-2.5-pro": _model(85, 1_048_576, "vision", "code", "reasoning", "long_context"),
            "gemini-2.5-flash": _model(65, 1_048_576, "vision", "code", "long_context"),
            "gemini-embedding-001": {},
        },
    )


def _openrouter(_: Mapping[str, str]) -> dict[str, Any]:
    return _cloud(
        "openai",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        "openrouter",
        {
            "anthropic/claude-sonnet-4.5": _model(85, 200_000, "vision", "code"),
            "openai/gpt-4.1-mini": _model(60, 1_047_576, "vision", "code"),
        },
    )


def _local(wire: str, variable: str, models_variable: str) -> Callable[..., dict[str, Any]]:
    def entry(environ: Mapping[str, str]) -> dict[str, Any]:
        names = [name.strip() for name in environ.get(models_variable, "").split(",")]
        return {
            "wire": wire,
            "base_url": environ[variable],
            "hardware": "gpu",
            "models": {
                name: embedding_facts(name) or {"capabilities": ["json", "json_schema", "tools"]}
                for name in names
                if name
            },
        }

    return entry


_BY_VARIABLE: dict[str, tuple[str, Callable[[Mapping[str, str]], dict[str, Any]]]] = {
    "OPENAI_API_KEY": ("openai", _openai),
    "ANTHROPIC_API_KEY": ("anthropic", _anthropic),
    "GEMINI_API_KEY": ("gemini", _gemini),
    "OPENROUTER_API_KEY": ("openrouter", _openrouter),
    "OLLAMA_BASE_URL": ("ollama", _local("ollama", "OLLAMA_BASE_URL", "MILLRACE_OLLAMA_MODELS")),
    "VLLM_BASE_URL": ("vllm", _local("openai", "VLLM_BASE_URL", "MILLRACE_VLLM_MODELS")),
}


def usual_providers(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The entries whose variable is set, as the config file would have them.

    A local server's models are those it lists when the pipeline starts, unless
    `MILLRACE_OLLAMA_MODELS` or `MILLRACE_VLLM_MODELS` (comma-separated) name them.
    """
    return {
        name: build(environ)
        for variable, (name, build) in _BY_VARIABLE.items()
        if environ.get(variable)
    }
