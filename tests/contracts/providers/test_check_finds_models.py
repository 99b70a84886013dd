"""`millrace check` against servers that list their models."""

from typing import Any

import pytest

from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import SimulatorSettings
from millrace.streams.cli.check import Finding, check_all
from millrace.streams.settings import Settings


async def found(
    monkeypatch: pytest.MonkeyPatch, wire: str, models: tuple[str, ...], **fields: Any
) -> list[Finding]:
    """What is said of an entry with these models at a server that lists two others."""
    monkeypatch.setenv("SOME_KEY", "k")
    async with Simulator(SimulatorSettings(models=("one", "two"))) as simulator:
        entry = {
            "wire": wire,
            "base_url": simulator.base_url("any", wire),
            "models": {name: {} for name in models},
            **fields,
        }
        settings = Settings.model_validate(
            {"providers": {"p": entry}, "clickhouse": {"url": "chdb:///nowhere/at/all"}}
        )
        findings = await check_all(settings, timeout_seconds=10)
    return [each for each in findings if each.part == "provider p"]


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
async def test_a_model_that_the_server_does_not_list_is_noted(
    monkeypatch: pytest.MonkeyPatch, wire: str
) -> None:
    """It may be another name of one that is there, so it is no problem."""
    works, note = await found(monkeypatch, wire, ("one", "odd"), api_key_env=["NONE", "SOME_KEY"])

    assert (works.state, note.state) == ("works", "note")
    assert note.text.startswith("odd: not among the 2 models")


async def test_a_model_that_ollama_lacks_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the caller is to pull it."""
    local = {"hardware": "gpu"}

    _, problem = await found(monkeypatch, "ollama", ("one", "odd"), **local)
    _, note = await found(monkeypatch, "ollama", ("one", "odd"), pull_missing=True, **local)

    assert (problem.state, note.state) == ("problem", "note")
    assert "ollama pull" in problem.text


@pytest.mark.parametrize("fields", [{}, {"simulated": True}])
async def test_nothing_is_said_where_all_is_well(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    """All are there; or the server plays whatever it is asked for."""
    models = ("one", "odd") if fields else ("one", "two")

    (works,) = await found(monkeypatch, "openai", models, **fields)

    assert works.state == "works"
