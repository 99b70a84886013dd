"""Conversation turns as a request carries them and a provider is sent them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from millrace.schemas.record import Frozen


class TextPart(Frozen):
    """A piece of text within a turn."""

    type: Literal["text"] = "text"
    text: str


class ImagePart(Frozen):
    """An image within a turn: a URL, or data as base64 with its media type."""

    type: Literal["image"] = "image"
    url: str | None = None
    data: str | None = None
    media_type: str | None = None


ContentPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ToolCall(Frozen):
    """A call of a tool that the model asks for; `arguments` is the JSON text it wrote."""

    id: str | None = None
    name: str
    arguments: str


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
