"""The pages on providers, followed to the letter."""

import re
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from millrace.providers.entry import ProviderEntry
from millrace.providers.http_provider import HttpProvider
from millrace.providers.keys import ApiKeys
from millrace.providers.protocol import Completion, ModelRequest, ModelServer, TextDelta
from millrace.providers.registry import build_provider
from millrace.providers.simulator.behaviour import ScriptedBehaviour
from millrace.providers.simulator.server import Simulator
from millrace.providers.simulator.settings import SimulatorSettings
from millrace.providers.transport import build_client
from millrace.providers.wires.wire import ReplyLimits
from millrace.schemas.errors import ProviderUnavailableError, RequestRefusedError
from millrace.schemas.message import Message, ToolDefinition
from millrace.streams.settings import Settings

DOCS = Path(__file__).resolve().parents[3] / "docs"
NAMED = {
    "OpenAI": "openai",
    "Anthropic": "anthropic",
    "Gemini": "gemini",
    "Ollama": "ollama",
    "vLLM": "vllm",
    "OpenRouter": "openrouter",
    "LiteLLM proxy": "litellm",
    "Lightning AI": "lightning",
    "Any other OpenAI-compatible server": "acme",
    "Cursor CLI": "cursor",
    "Several servers, several keys": "pool",
    "Rate limits": "limited",
}


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code in one language."""
    text = (DOCS / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def entries() -> dict[str, dict[str, Any]]:
    """Every entry that the page on providers shows."""
    shown: dict[str, dict[str, Any]] = {}
    for block in blocks("providers.md", "toml"):
        shown |= tomllib.loads(block)["providers"]
    return shown


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A simulator as it comes."""
    async with Simulator(SimulatorSettings(answer_tokens=(20, 20))) as running:
        yield running


def request(**fields: Any) -> ModelRequest:
    """A question."""
    messages = (Message(role="user", content="What is a mill race?"),)
    return ModelRequest(model=fields.pop("model", "m"), messages=messages, **fields)


async def answer(provider: ModelServer, asked: ModelRequest) -> Completion:
    """The whole reply, whose pieces join to its text."""
    events = [event async for event in provider.ask(asked)]
    last = events[-1]
    assert isinstance(last, Completion)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == last.text
    return last


def test_each_server_has_its_entry() -> None:
    """Under a heading of its own."""
    text = (DOCS / "providers.md").read_text("utf-8")

    for heading, name in NAMED.items():
        section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        assert f"[providers.{name}]" in section, heading
    assert entries().keys() == set(NAMED.values())


def test_together_they_are_a_config_file() -> None:
    """Settings take them as they stand."""
    tree = {"clickhouse": {"url": "chdb:///tmp/engine"}, "providers": entries()}

    settings = Settings.model_validate(tree)

    assert settings.enabled_providers.keys() == set(NAMED.values())
    assert all(entry.models for entry in settings.providers.values())


@pytest.mark.parametrize("name", NAMED.values())
async def test_a_provider_can_be_built_of_each(name: str) -> None:
    """With a value in each variable that the entry names."""
    entry = ProviderEntry.model_validate(entries()[name])
    variables = [*entry.api_key_env, *(key for each in entry.instances for key in each.api_key_env)]

    provider = build_provider(name, entry, environ=dict.fromkeys(variables, "k-1"))

    assert provider.name == name
    await provider.aclose()


@pytest.mark.parametrize(
    "name", [name for name in NAMED.values() if entries()[name]["wire"] != "cursor-cli"]
)
async def test_each_entry_answers_once_it_points_at_the_simulator(
    simulator: Simulator, name: str
) -> None:
    """Nothing else of it is changed."""
    given = entries()[name]
    url = simulator.base_url(name, given["wire"])
    if "instances" in given:
        first, *others = given["instances"]
        given["instances"] = [{**first, "url": url}, *others]
    else:
        given["base_url"] = url
    entry = ProviderEntry.model_validate(given)
    variables = [*entry.api_key_env, *(key for each in entry.instances for key in each.api_key_env)]
    provider = build_provider(name, entry, environ=dict.fromkeys(variables, "k-1"))
    try:
        completion = await answer(provider, request(model=next(iter(entry.models))))
    finally:
        await provider.aclose()

    (line,) = simulator.ledger.lines()
    assert completion.usage is not None
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (
        line.input_tokens,
        line.generated_tokens,
    )


async def test_a_new_compatible_vendor_is_an_entry(simulator: Simulator) -> None:
    """The first half of the page, pointed at the simulator."""
    (block,) = blocks("adding-a-provider.md", "toml")
    given = tomllib.loads(block)["providers"]["newcomer"]
    given["base_url"] = simulator.base_url("newcomer", "openai")
    entry = ProviderEntry.model_validate(given)
    provider = build_provider("newcomer", entry, environ={"NEWCOMER_API_KEY": "k-1"})
    try:
        await provider.check()
        completion = await answer(provider, request(model="newcomer-large"))
    finally:
        await provider.aclose()

    assert completion.usage is not None
    assert completion.key_alias == "NEWCOMER_API_KEY"


@pytest.fixture
def parrot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file that the page's second half has one write."""
    (block,) = blocks("adding-a-provider.md", "python")
    file = tmp_path / "parrot.py"
    file.write_text(block, "utf-8")
    module = ModuleType("parrot")
    monkeypatch.setitem(sys.modules, "parrot", module)
    exec(compile(block, str(file), "exec"), module.__dict__)  # noqa: S102 - the document is ours
    return module


@pytest.fixture
async def new_wire(simulator: Simulator, parrot: ModuleType) -> AsyncIterator[HttpProvider]:
    """A provider that speaks it with the simulator, whose ollama wire is like it."""
    url = simulator.base_url("parrot", "ollama")
    entry = ProviderEntry.model_validate({"wire": "ollama", "base_url": url})
    provider = HttpProvider(
        name="parrot",
        entry=entry,
        wire=parrot.ParrotWire(entry, limits=ReplyLimits()),
        client=build_client(entry.timeouts),
        keys=ApiKeys(()),
        now=lambda: pytest.fail("nothing here asks the time"),
    )
    yield provider
    await provider.aclose()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_new_wire_is_one_file(
    simulator: Simulator, new_wire: HttpProvider, stream: bool
) -> None:
    """As it stands there: text, end, and the tokens that the ledger has."""
    await new_wire.check()

    completion = await answer(new_wire, request(stream=stream))

    (line,) = simulator.ledger.lines()
    assert completion.finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (
        line.input_tokens,
        line.generated_tokens,
    )


@pytest.mark.parametrize(
    ("ordered", "code"),
    [
        ({"cut": 5}, "stream_truncated"),
        ({"cut_cleanly": 5}, "stream_truncated"),
        ({"error_in_stream": 5}, "provider_unavailable"),
    ],
)
async def test_a_new_wire_fails_as_every_other(
    simulator: Simulator, new_wire: HttpProvider, ordered: dict[str, int], code: str
) -> None:
    """By what the page says that the base class does."""
    simulator.script(ScriptedBehaviour(**ordered))

    with pytest.raises(ProviderUnavailableError) as failed:
        await answer(new_wire, request())

    assert failed.value.code == code


async def test_a_new_wire_refuses_what_it_cannot_carry(new_wire: HttpProvider) -> None:
    """Tools, in the page's example."""
    with pytest.raises(RequestRefusedError, match="no tools"):
        await answer(new_wire, request(tools=(ToolDefinition(name="t"),)))


def test_the_steps_that_the_page_lists_exist() -> None:
    """The names that one is told to change."""
    text = (DOCS / "adding-a-provider.md").read_text("utf-8")
    root = DOCS.parent

    for name, file in re.findall(r"to `(\w+)` in `([\w/.]+)`", text):
        assert re.search(rf"^{name}\b", (root / file).read_text("utf-8"), re.MULTILINE), name
    assert len(re.findall(r"to `(\w+)` in `([\w/.]+)`", text)) == 2
