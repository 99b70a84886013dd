"""What the simulator answers, before a wire has put it into its dialect."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Finish = Literal["stop", "length", "stop_sequence", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says: tokens of text, or of a tool call's arguments."""

    tokens: Sequence[str]
    finish: Finish = "stop"
    stop_sequence: str | None = None
    tool: str | None = None
    """The name of the tool that is called; the tokens are its arguments then."""

    @property
    def text(self) -> str:
        """The tokens joined."""
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer with everything that its wire says besides."""

    id: str
    sequence: int
    model: str
    created: float
    """Seconds since the epoch, when the request came."""
    answer: Answer
    input_tokens: int
    """The whole prompt."""
    vectors: tuple[tuple[float, ...], ...] = ()
    """What an embedding call gets instead of an answer."""
    base64_vectors: bool = False
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    report_usage: bool = True
    probability: float | None = None
    """Of each token; None where it is not to be told."""
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    """The planned time from one token to the next."""

    @property
    def output_tokens(self) -> int:
        """The length of the answer."""
        return len(self.answer.tokens)


@dataclass(frozen=True, slots=True)
class Frames:
    """A streamed reply, cut where time may pass."""

    head: bytes
    """What comes with the first token."""
    tokens: Sequence[bytes]
    """One frame a token; empty where the wire sends nothing for it."""
    tail: bytes
    """The end, with usage and end marker."""
