"""Conversation turns as a request carries them and a provider is sent them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from millrace.schemas.record import Frozen


class TextPart(Frozen):
    """A piece of text within a turn."""

    type: Literal["text"]
    """Without a default: a writer that leaves out defaults must not leave out what tells parts
    apart."""
    text: str


class ImagePart(Frozen):
    """An image within a turn: a URL, or data as base64 with its media type."""

    type: Literal["image"]
    url: str | None = None
    data: str | None = None
    media_type: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.data is None):
            raise ValueError("an image needs either a url or data")
        if self.data is not None and self.media_type is None:
            raise ValueError("image data needs its media_type")
        return self


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ToolCall(Frozen):
    """A call of a tool that the model asks for; `arguments` is the JSON text it wrote."""

    id: str | None = None
    name: str
    arguments: str
    signature: str | None = None
    """What the vendor wants back with the call, unread (Gemini's thought signature)."""


class ToolDefinition(Frozen):
    """A tool the model may call; `parameters` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)


class Message(Frozen):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | tuple[ContentPart, ...] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def text(self) -> str:
        """The text of the turn, its parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))
