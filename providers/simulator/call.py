"""A model call in no provider's dialect, as the simulator's wires read it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from millrace.providers.simulator.tokens import count_tokens

Role = Literal["system", "user", "assistant", "tool"]
IMAGE_TOKENS = 85
"""What an image counts, whatever its size."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A message: its role in Millrace's words, and the text of its parts joined."""

    role: Role
    text: str
    images: int = 0


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool that the model may call, and the JSON Schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A request as HTTP brought it, before its wire has read it."""

    instance: str
    body: bytes
    headers: Mapping[str, str]
    query: str
    """What follows the question mark."""
    model: str = ""
    """From the path, where the wire has it there."""
    verb: str = ""
    """Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCall:
    """What is asked."""

    instance: str
    model: str
    stream: bool
    turns: tuple[Turn, ...]
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    json_asked: bool = False
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[ToolOffer, ...] = ()
    tool_choice: Literal["auto", "none", "required"] = "auto"
    report_usage: bool = True
    """False where the wire sends usage only when asked, and was not."""
    cache_asked: bool = False
    """The request marks what is to be cached."""
    probabilities_asked: bool = False
    """How probable each token was is to be told."""
    embeds: bool = False
    """Asks for the vector of each turn instead of an answer."""
    dimensions: int | None = None
    """The length of those vectors, where that was asked."""
    base64_vectors: bool = False
    """The vectors are wanted as base64 of 32-bit numbers."""
    other_input_tokens: int = 0
    """What counts as input besides the turns: definitions of tools."""
    question: str = field(init=False)
    """The text of the last user turn."""

    def __post_init__(self) -> None:
        last = next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")
        object.__setattr__(self, "question", last)

    def input_tokens(self) -> int:
        """The length of the prompt, at least 1."""
        counted = sum(count_tokens(turn.text) + turn.images * IMAGE_TOKENS for turn in self.turns)
        return max(1, counted + self.other_input_tokens)

    def digest(self) -> str:
        """The messages' digest: the same on every wire, as long as their texts are."""
        return messages_sha256((turn.role, turn.text) for turn in self.turns)

    def conversation_digest(self) -> str:
        """Likewise, without the system messages, where wires differ in what they add."""
        return messages_sha256(
            (turn.role, turn.text) for turn in self.turns if turn.role != "system"
        )


def messages_sha256(messages: Iterable[tuple[str, str]]) -> str:
    """Digest roles and texts as the ledger does: the system messages as one, then the others."""
    system: list[str] = []
    turns: list[str] = []
    for role, text in messages:
        if role == "system":
            system.append(text)
        else:
            turns.append(f"{role}\x1f{text}")
    joined = "\x1e".join(("\n\n".join(system), *turns))
    return sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()
