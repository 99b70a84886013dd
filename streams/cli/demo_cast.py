"""Who plays in the demo: provider entries as a team would have them, all on the simulator."""

from typing import Any

from millrace.providers.embedding_models import embedding_facts
from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import InstanceSettings, SimulatorSettings
from millrace.streams.usual_providers import usual_providers

_CLOUD = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")
_LOCAL_MODELS: dict[str, tuple[str, dict[str, int]]] = {
    "ollama-gpu": ("gpu", {"llama3.1:8b": 45, "qwen2.5-coder:14b": 55}),
    "ollama-cpu": ("cpu", {"llama3.2:3b": 30, "nomic-embed-text": 40}),
}
"""Hardware, and models with the operator's rating."""

ROUTES: dict[str, Any] = {
    "default": {
        "max_candidates": 4,
        # Of cascades, cheap first.
        "tiers": [
            ["ollama-gpu/llama3.1:8b"],
            ["openai/gpt-4.1-mini"],
            ["anthropic/claude-sonnet-*"],
        ],
    },
    "general": {"strategy": "local_first"},
    "summarization": {"candidates": ["gemini/gemini-2.5-flash", "openai/gpt-4.1-mini"]},
    "data_interpretation": {"candidates": ["gemini/gemini-2.5-flash", "openai/gpt-4.1"]},
    "documentation_generation": {"candidates": ["openai/gpt-4.1-mini", "gemini/*"]},
    "reasoning": {"candidates": ["gemini/gemini-2.5-pro", "anthropic/*"]},
    "requirement_analysis": {"candidates": ["openai/gpt-4.1", "anthropic/claude-sonnet-4-5"]},
    "workflow_generation": {"candidates": ["openai/gpt-4.1", "gemini/gemini-2.5-flash"]},
    "error_diagnosis": {"candidates": ["anthropic/claude-haiku-4-5", "openai/gpt-4.1-mini"]},
    "code_review": {"candidates": ["anthropic/claude-sonnet-4-5", "openai/gpt-4.1"]},
    "code_generation": {"candidates": ["anthropic/claude-sonnet-4-5", "openai/gpt-4.1"]},
    "bug_fixing": {"candidates": ["ollama-gpu/qwen2.5-coder:14b", "anthropic/*"]},
}
"""A routing table that sends each task somewhere, as section `[routes]` of a config file."""


def simulator_settings() -> SimulatorSettings:
    """A simulator that takes about as long as the vendors do, so that tokens can be seen coming."""
    return SimulatorSettings(
        time_to_first_token_ms=180,
        time_to_first_token_jitter=0.6,
        tokens_per_second=90,
        prompt_cache=True,
        instances={"ollama-cpu": InstanceSettings(tokens_per_second=45)},
    )


def simulated_entries(simulator: Simulator) -> dict[str, dict[str, Any]]:
    """The provider entries, as a config file would have them.

    Each is an instance of the simulator with its name. Models and prices are the vendors' own;
    no key is named, so none can be sent.
    """
    entries = usual_providers(dict.fromkeys(_CLOUD, "unused"))
    for name, (hardware, models) in _LOCAL_MODELS.items():
        entries[name] = {
            "wire": "ollama",
            "hardware": hardware,
            "models": {
                model: {
                    **(
                        embedding_facts(model) or {"capabilities": ["json", "json_schema", "tools"]}
                    ),
                    "quality": quality,
                }
                for model, quality in models.items()
            },
        }
    return {
        name: {
            **entry,
            "base_url": simulator.base_url(name, entry["wire"]),
            "api_key_env": [],
            "simulated": True,
            # What hangs is to be given up while somebody watches.
            "timeouts": {"connect": 2, "first_token": 4, "idle": 4},
        }
        for name, entry in entries.items()
    }
