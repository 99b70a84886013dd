"""A provider entry: what the config file says of one model server."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, HttpUrl, model_validator

from millrace.providers.balance import BalancePolicy
from millrace.providers.embedding_models import embedding_facts
from millrace.providers.rate_limit import RateLimits
from millrace.schemas.embedding import MAX_INPUTS, Dimensions
from millrace.schemas.record import Frozen
from millrace.schemas.usage import Money
from millrace.schemas.vocabulary import Capability, Hardware, TaskType

Wire = Literal["openai", "anthropic", "gemini", "ollama"]
"""The wire APIs over HTTP."""

WireName = Literal[Wire, "cursor-cli"]
"""Whatever an entry may speak; `cursor-cli` is a command run on this machine."""

_PROCESSES = 4
"""Calls under way at a command unless told: each is a process of some hundred megabytes."""

_ONLY_FOR: dict[str, WireName] = {
    "pull_missing": "ollama",
    "warm_up": "ollama",
    "keep_alive_seconds": "ollama",
    "command": "cursor-cli",
    "arguments": "cursor-cli",
    "project": "cursor-cli",
    "prompt_on": "cursor-cli",
    "pass_on_env": "cursor-cli",
}
_EMBED: tuple[WireName, ...] = ("openai", "gemini", "ollama")
"""The wires that have embeddings."""

_ONLY_HTTP = ("base_url", "instances", "headers")


class PriceOverride(Frozen):
    """US dollars for a million tokens, in place of the price table's."""

    input: Money
    output: Money
    cached: Money | None = None
    """The input price when unset."""
    cache_write: Money | None = None
    """The input price when unset."""


class ModelEntry(Frozen):
    """A model that an entry offers."""

    capabilities: tuple[Capability, ...] = ()
    context_window: int | None = Field(default=None, ge=1)
    """In tokens."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    quality: int = Field(default=50, ge=0, le=100)
    """The operator's rating, for choosing between models."""
    quality_by_task: dict[TaskType, Annotated[int, Field(ge=0, le=100)]] = Field(
        default_factory=dict
    )
    """The same for tasks at which it is better or worse than in general."""
    tier: int | None = Field(default=None, ge=0)
    """Its place in cascades, from 0 for the cheapest. Where no model has one, price and quality
    decide."""
    price: PriceOverride | None = None
    price_as: str | None = None
    """The name the price table knows it by, where that differs."""
    dimensions: Dimensions | None = None
    """Of embedding models: the length of a vector unless the request says otherwise."""
    max_inputs: int | None = Field(default=None, ge=1, le=MAX_INPUTS)
    """Of embedding models: how many texts the server takes at once; the wire's own bound when
    unset."""


class Limits(RateLimits):
    """What may be asked of this entry: calls under way in each caller process, and rates."""

    in_flight: int = Field(default=256, ge=1)


class Timeouts(Frozen):
    """In seconds."""

    connect: float = Field(default=10.0, gt=0)
    first_token: float = Field(default=120.0, gt=0)
    """From sending the request to the first byte of the body."""
    idle: float = Field(default=60.0, gt=0)
    """Between two pieces of a stream."""


class InstanceEntry(Frozen):
    """One of several servers that an entry's calls are spread over."""

    url: HttpUrl
    """As the entry's `base_url`."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Its share of the calls under the policy `weighted`, beside those of the others."""
    api_key_env: tuple[str, ...] = ()
    """Names of environment variables that hold its keys; the entry's when empty."""


class ProviderEntry(Frozen):
    """A name in the config file for a model server and how to talk to it."""

    wire: WireName
    base_url: HttpUrl | None = None
    """Up to, not including, the path of the wire (`…/v1` for the openai wire). Where only
    `instances` are given, the first one's; None for a command."""
    instances: tuple[InstanceEntry, ...] = ()
    """Several servers with the same models, instead of `base_url`."""
    balance: BalancePolicy = "round_robin"
    """How calls are spread over the instances, and over the keys of each."""
    api_key_env: tuple[str, ...] = ()
    """Names of environment variables that hold keys; never keys."""
    models: dict[str, ModelEntry] = Field(default_factory=dict)
    """Empty: whatever the server lists when the pipeline starts, which only local servers may."""
    hardware: Hardware = "cloud"
    prices: str | None = None
    """The price table's id for this provider (`openai`, `anthropic`, `google`, …)."""
    headers: dict[str, str] = Field(default_factory=dict)
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    enabled: bool = True
    simulated: bool = False
    """True for the simulator: its answers are marked as such wherever they are shown."""

    check_seconds: float | None = Field(default=None, ge=0)
    """How often it is reached without a call; 0 never, `health.check_seconds` when unset."""

    pull_missing: bool = False
    """Ollama: download configured models that the server does not have yet."""
    warm_up: bool = False
    """Ollama: load the configured models when a caller starts, so that no call waits for it."""
    keep_alive_seconds: int | None = Field(default=None, ge=-1)
    """Ollama: how long a model stays loaded after a call; -1 for ever, the server's own setting
    when unset."""

    command: str = "cursor-agent"
    """Cursor CLI: the program, by name or by path."""
    arguments: tuple[str, ...] = ()
    """Cursor CLI: further arguments, such as `--mode ask` or `--trust`."""
    project: Path | None = None
    """Cursor CLI: the folder that it works in and may look at; ours when unset."""
    prompt_on: Literal["stdin", "argument"] = "stdin"
    """Cursor CLI: how the prompt is handed over. Other users of the machine can read
    arguments, and the system bounds their length."""
    pass_on_env: tuple[str, ...] = ()
    """Cursor CLI: names of further environment variables that it gets. The command runs tools
    that a model chooses, so it does not get all of ours."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        instances = given.get("instances")
        if given.get("base_url") is None and isinstance(instances, list | tuple) and instances:
            first = instances[0]
            url = first.get("url") if isinstance(first, dict) else getattr(first, "url", None)
            given = {**given, "base_url": url}
        if given.get("wire") == "cursor-cli" and "limits" not in given:
            given = {**given, "limits": Limits(in_flight=_PROCESSES)}
        models = given.get("models")
        if isinstance(models, dict) and given.get("wire") in _EMBED:
            given = {**given, "models": {name: _known(name, models[name]) for name in models}}
        return given

    @model_validator(mode="after")
    def _fits_its_wire(self) -> Self:
        wrong = [
            name
            for name, wire in _ONLY_FOR.items()
            if self.wire != wire and getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.wire == "cursor-cli":
            wrong += [name for name in _ONLY_HTTP if getattr(self, name)]
        if wrong:
            raise ValueError(f"the wire {self.wire!r} has no {', '.join(wrong)}: leave it out")
        embedding = [
            name for name, each in self.models.items() if "embeddings" in each.capabilities
        ]
        if embedding and self.wire not in _EMBED:
            raise ValueError(
                f"the wire {self.wire!r} has no embeddings, which {', '.join(embedding)} declares"
            )
        if self.wire != "cursor-cli" and self.base_url is None:
            raise ValueError(f"the wire {self.wire!r} needs a base_url, or instances")
        if self.instances and self.base_url != self.instances[0].url:
            raise ValueError("give either base_url or instances, not both")
        if len({each.url for each in self.instances}) < len(self.instances):
            raise ValueError("two instances have the same url: name each server once")
        return self

    @property
    def address(self) -> str:
        """Where the model server is, for people: a URL, several, or a command.

        User names and passwords in URLs are left out.
        """
        if self.base_url is None:
            return self.command
        urls = [each.url for each in self.instances] or [self.base_url]
        return ", ".join(_without_credentials(url) for url in urls)


def _known(name: str, given: Any) -> Any:
    """What the config says of a model, over what is known of embedding models."""
    facts = embedding_facts(name)
    if facts is None or not isinstance(given, dict):
        return given
    if "embeddings" not in given.get("capabilities", facts["capabilities"]):
        return given
    return {**facts, **given}


def _without_credentials(url: HttpUrl) -> str:
    port = "" if url.port in (None, 80, 443) else f":{url.port}"
    path = (url.path or "").rstrip("/")
    return f"{url.scheme}://{url.host}{port}{path}"
